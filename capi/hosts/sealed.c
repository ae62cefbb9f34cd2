/* Tokens that lie in Redis encrypted. Usage: sealed REDIS ISSUER KEYS_FILE */
#define _POSIX_C_SOURCE 200809L
#include "host.h"

int main(int argc, char **argv) {
  static struct issuer issuer;
  tkm_store *redis, *sealed;
  tkm_options *options;
  tkm_manager *manager;
  tkm_token *token;
  tkm_error *error;
  size_t length;
  CHECK(argc == 4);
  issuer_init(&issuer, argv[2]);
  options = options_for("sealed", argv[1], &issuer);
  CHECK_OK(tkm_store_redis(argv[1], NULL, &redis, &error), error);
  CHECK_OK(tkm_store_sealed(redis, argv[3], 0, &sealed, &error), error);
  tkm_store_free(redis); /* the sealing store keeps what it needs */
  CHECK(tkm_options_store(options, sealed) == TKM_OK);
  tkm_store_free(sealed);
  CHECK_OK(tkm_manager_new(options, &manager, &error), error);
  CHECK_OK(tkm_manager_get(manager, &token, &error), error);
  CHECK(tkm_token_secret(token, &length) != NULL);
  printf("%.*s\n", (int)length, tkm_token_secret(token, NULL));
  tkm_token_free(token);
  CHECK(tkm_manager_free(manager, 10000) == TKM_OK);
  return 0;
}
