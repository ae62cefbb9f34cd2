/* The demo in C: 100 threads in batches of 25 share one token. Usage: demo REDIS ISSUER [TOKEN] */
#define _POSIX_C_SOURCE 200809L
#include "host.h"

enum { THREADS = 100, BATCH = 25 };

struct visitor {
  const tkm_manager *manager;
  int number;
  uint64_t generation;
};

static void *visit(void *data) {
  struct visitor *visitor = data;
  tkm_token *token = NULL;
  tkm_error *error = NULL;
  char secret[256];
  size_t length;
  CHECK_OK(tkm_manager_get(visitor->manager, &token, &error), error);
  CHECK(error == NULL);
  CHECK(tkm_token_secret(token, &length) != NULL && length > 0);
  CHECK(tkm_token_copy_secret(token, secret, sizeof secret) == length && strlen(secret) == length);
  CHECK(memcmp(secret, tkm_token_secret(token, NULL), length) == 0);
  visitor->generation = tkm_token_generation(token);
  printf("thread %3d: token %llu, %llu ms left\n", visitor->number, (unsigned long long)visitor->generation,
         (unsigned long long)tkm_token_expires_in_ms(token));
  tkm_token_free(token);
  return NULL;
}

static void check_views(const tkm_manager *manager, uint64_t generation) {
  tkm_stats stats;
  tkm_inspection seen;
  tkm_error *error = NULL;
  char owner[37], *text;
  size_t needed;
  CHECK(tkm_manager_stats(manager, &stats, sizeof stats) == TKM_OK);
  CHECK(stats.store_errors == 0 && stats.expires_in_ms > 0 && stats.doubts == 0);
  CHECK(tkm_manager_openmetrics(manager, NULL, 0, &needed) == TKM_OK && needed > 1000);
  text = malloc(needed);
  CHECK(text != NULL && tkm_manager_openmetrics(manager, text, needed, NULL) == TKM_OK && strlen(text) > 1000);
  CHECK(strstr(text, "token_manager_adopted_total{namespace=\"tm\"") != NULL && strstr(text, "# EOF\n") != NULL);
  CHECK(tkm_manager_openmetrics(manager, text, 10, NULL) == TKM_OK && text[0] == '\0');
  free(text);
  CHECK(stats.failures == 0 && stats.timeouts == 0 && stats.abandoned == 0 && stats.adopted >= 1);
  CHECK_OK(tkm_manager_inspect(manager, &seen, sizeof seen, &error), error);
  CHECK(seen.generation == generation && seen.granted == generation && seen.left_ms > 0 && seen.fails == 0);
  CHECK(seen.carries == 0 && seen.updater[0] == '\0' && seen.pause_ms == 0);
  CHECK(tkm_manager_owner(manager, owner) == TKM_OK && strlen(owner) == 36);
}

int main(int argc, char **argv) {
  static struct visitor visitors[THREADS];
  static struct issuer issuer;
  pthread_t threads[BATCH];
  tkm_manager *manager;
  int first, i;
  CHECK(argc >= 3);
  CHECK(strcmp(tkm_version(), TKM_VERSION) == 0);
  issuer_init(&issuer, argv[2]);
  manager = manager_for(argc > 3 ? argv[3] : "demo-c", argv[1], &issuer);
  for (first = 0; first < THREADS; first += BATCH) {
    for (i = 0; i < BATCH; i++) {
      visitors[first + i].manager = manager;
      visitors[first + i].number = first + i;
      CHECK(pthread_create(&threads[i], NULL, visit, &visitors[first + i]) == 0);
    }
    for (i = 0; i < BATCH; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  }
  for (i = 1; i < THREADS; i++) CHECK(visitors[i].generation == visitors[0].generation);
  check_views(manager, visitors[0].generation);
  CHECK(tkm_manager_free(manager, 10000) == TKM_OK);
  CHECK(issuer.destroyed == 1);
  printf("ok %d threads, %d fetches\n", THREADS, issuer.asked);
  return 0;
}
