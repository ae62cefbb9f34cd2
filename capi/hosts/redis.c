/* A Redis as people run it: TLS with an own CA and a client certificate, and logins that expire. Usage: redis URL CA CERTIFICATE KEY
 * LOGINS, where LOGINS is a file with a user and a password on a line each. */
#define _POSIX_C_SOURCE 200809L
#include "host.h"

static int asked, destroyed;

static void fetch(void *user_data, const tkm_attempt *attempt, tkm_reply *reply) {
  (void)user_data, (void)attempt;
  tkm_reply_token(reply, "secret", 6, 3600 * 1000);
}

/* As who answers from memory. */
static void credentials(void *user_data, tkm_login *login) {
  const char **words = (const char **)user_data;
  ++asked;
  if (words[1] == NULL) {
    CHECK(tkm_login_unavailable(login, "the vault is sealed") == TKM_OK);
  } else {
    CHECK(tkm_login_set(login, "fleet", NULL) == TKM_NULL && tkm_login_set(login, words[0], words[1]) == TKM_OK);
  }
}

static void silent(void *user_data, tkm_login *login) {
  (void)user_data, (void)login;
}

static void destroy(void *user_data) {
  (void)user_data;
  ++destroyed;
}

static tkm_redis_options *redis_options_for(char **argv) {
  tkm_redis_options *options = tkm_redis_options_new();
  CHECK(tkm_redis_options_ca_file(options, argv[2]) == TKM_OK);
  CHECK(tkm_redis_options_identity_files(options, argv[3], argv[4]) == TKM_OK);
  CHECK(tkm_redis_options_connect_ms(options, 10000) == TKM_OK);
  CHECK(tkm_redis_options_max_age_ms(options, 60000) == TKM_OK);
  return options;
}

/* Gets a token from a manager in this store; returns the code. */
static int32_t get(const char *url, tkm_redis_options *redis, char *message, size_t size) {
  tkm_options *options = tkm_options_new("c");
  tkm_manager *manager;
  tkm_store *store;
  tkm_token *token;
  tkm_error *error;
  int32_t code;
  CHECK_OK(tkm_store_redis(url, redis, &store, &error), error);
  tkm_redis_options_free(redis);
  tkm_options_store(options, store);
  tkm_store_free(store);
  tkm_options_source(options, fetch, NULL, NULL);
  tkm_options_lease_ms(options, 60000);
  CHECK_OK(tkm_manager_new(options, &manager, &error), error);
  code = tkm_manager_get(manager, &token, &error);
  snprintf(message, size, "%s", code == TKM_OK ? "" : tkm_error_message(error));
  tkm_token_free(token);
  tkm_error_free(error);
  CHECK(tkm_manager_free(manager, 10000) == TKM_OK);
  return code;
}

int main(int argc, char **argv) {
  const char *right[] = {"fleet", "word"}, *wrong[] = {"fleet", "wrong"}, *sealed[] = {"fleet", NULL};
  tkm_redis_options *options;
  tkm_store *store;
  tkm_error *error;
  char message[512];
  CHECK(argc == 6);
  options = redis_options_for(argv);
  CHECK(tkm_redis_options_credentials(options, credentials, (void *)right, destroy) == TKM_OK);
  CHECK(get(argv[1], options, message, sizeof message) == TKM_OK && asked > 0 && destroyed == 1);
  printf("ok credentials by a callback, over TLS\n");

  options = redis_options_for(argv);
  CHECK(tkm_redis_options_credentials_file(options, argv[5]) == TKM_OK);
  CHECK(get(argv[1], options, message, sizeof message) == TKM_OK);
  printf("ok credentials from a file\n");

  options = redis_options_for(argv);
  CHECK(tkm_redis_options_credentials(options, credentials, (void *)wrong, NULL) == TKM_OK);
  CHECK(get(argv[1], options, message, sizeof message) == TKM_STORE && strstr(message, "refused the credentials") != NULL);
  options = redis_options_for(argv);
  CHECK(tkm_redis_options_credentials(options, credentials, (void *)sealed, NULL) == TKM_OK);
  CHECK(get(argv[1], options, message, sizeof message) == TKM_STORE && strstr(message, "the vault is sealed") != NULL);
  options = redis_options_for(argv);
  CHECK(tkm_redis_options_credentials(options, silent, NULL, NULL) == TKM_OK);
  CHECK(get(argv[1], options, message, sizeof message) == TKM_STORE && strstr(message, "gave no login") != NULL);
  printf("ok credentials that are wrong, or none\n");

  options = redis_options_for(argv);
  CHECK(tkm_redis_options_credentials(options, NULL, NULL, destroy) == TKM_NULL && destroyed == 2);
  CHECK(tkm_redis_options_ca_pem(options, "no PEM", 6) == TKM_OK);
  CHECK(tkm_store_redis(argv[1], options, &store, &error) != TKM_OK && strstr(tkm_error_message(error), "PEM") != NULL);
  tkm_error_free(error);
  tkm_redis_options_free(options);
  printf("ok nonsense\n");
  return 0;
}
