/* One token for every thread of every process: quickstart REDIS_URL COMMAND
 * COMMAND prints a new token. One process at a time runs it; all others get what it printed. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <token_manager.h>

/* README: from here */
/* Runs on a thread of the library, once this process has won the right to ask for the next token. */
static void fetch(void *user_data, const tkm_attempt *attempt, tkm_reply *reply) {
  char secret[4096];
  size_t length;
  FILE *output = popen(user_data, "r"); /* or ask your issuer, within tkm_attempt_remaining_ms(attempt) */

  (void)attempt;
  if (output == NULL) {
    tkm_reply_unavailable(reply, "the command cannot be run");
    return;
  }
  length = fread(secret, 1, sizeof secret, output);
  if (pclose(output) != 0) {
    tkm_reply_unavailable(reply, "the command failed");
    return;
  }
  tkm_reply_token(reply, secret, length, 3600 * 1000); /* it lives for an hour */
}

static int fail(tkm_error *error) {
  fprintf(stderr, "%s\n", tkm_error_message(error));
  tkm_error_free(error);
  return EXIT_FAILURE;
}

int main(int argc, char **argv) {
  tkm_store *store;
  tkm_options *options = tkm_options_new("billing-api");
  tkm_manager *manager;
  tkm_token *token;
  tkm_error *error;
  const char *secret;
  size_t length;

  if (argc != 3) {
    fprintf(stderr, "usage: quickstart REDIS_URL COMMAND\n");
    return EXIT_FAILURE;
  }
  if (tkm_store_redis(argv[1], NULL, &store, &error) != TKM_OK) return fail(error);
  tkm_options_store(options, store);
  tkm_store_free(store); /* the options keep what they need */
  tkm_options_source(options, fetch, argv[2], NULL);
  if (tkm_manager_new(options, &manager, &error) != TKM_OK) return fail(error); /* it took the options */

  if (tkm_manager_get(manager, &token, &error) != TKM_OK) return fail(error); /* from any thread */
  secret = tkm_token_secret(token, &length);
  printf("Authorization: Bearer %.*s\n", (int)length, secret);
  tkm_token_free(token);
  tkm_manager_free(manager, 10000); /* waits for a running fetch, 10 seconds at most */
  return EXIT_SUCCESS;
}
/* README: to here */
