/* A program that lives for one token, from C: prints how many bytes it has. short REDIS_URL */
#include <stdio.h>
#include <stdlib.h>
#include <token_manager.h>

static void fetch(void *user_data, const tkm_attempt *attempt, tkm_reply *reply) {
  (void)user_data;
  (void)attempt;
  tkm_reply_unavailable(reply, "the token ought to be in the store");
}

static int fail(tkm_error *error) {
  fprintf(stderr, "%s\n", tkm_error_message(error));
  return EXIT_FAILURE;
}

int main(int argc, char **argv) {
  tkm_redis_options *redis = tkm_redis_options_new();
  tkm_options *options = tkm_options_new("short");
  tkm_store *store;
  tkm_manager *manager;
  tkm_token *token;
  tkm_error *error;
  size_t length;

  if (argc != 2) return EXIT_FAILURE;
  tkm_redis_options_without_thread(redis);
  if (tkm_store_redis(argv[1], redis, &store, &error) != TKM_OK) return fail(error);
  tkm_options_store(options, store);
  tkm_store_free(store);
  tkm_options_execution(options, TKM_EXECUTION_INLINE);
  tkm_options_source(options, fetch, NULL, NULL);
  if (tkm_manager_new(options, &manager, &error) != TKM_OK) return fail(error);
  if (tkm_manager_get(manager, &token, &error) != TKM_OK) return fail(error);
  tkm_token_secret(token, &length);
  printf("%zu\n", length);
  tkm_token_free(token);
  tkm_manager_free(manager, 0);
  return EXIT_SUCCESS;
}
