/* What a hit costs through C: nanoseconds of one get and free on one thread. */
#define _POSIX_C_SOURCE 200809L
#include <time.h>

#include "host.h"

static void grant(void *user_data, const tkm_attempt *attempt, tkm_reply *reply) {
  (void)user_data, (void)attempt;
  tkm_reply_token(reply, "secret", 6, 3600000);
}

int main(void) {
  enum { HITS = 5000000 };
  tkm_store *store = tkm_store_memory();
  tkm_options *options = tkm_options_new("hit");
  tkm_manager *manager = NULL;
  tkm_token *token = NULL;
  struct timespec start, end;
  int i;
  CHECK(tkm_options_store(options, store) == TKM_OK);
  CHECK(tkm_options_source(options, grant, NULL, NULL) == TKM_OK);
  CHECK(tkm_manager_new(options, &manager, NULL) == TKM_OK);
  for (i = -1000; i < HITS; i++) {
    if (i == 0) clock_gettime(CLOCK_MONOTONIC, &start);
    CHECK(tkm_manager_get(manager, &token, NULL) == TKM_OK);
    tkm_token_free(token);
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%.2f\n", ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / HITS);
  tkm_store_free(store);
  return tkm_manager_free(manager, 1000);
}
