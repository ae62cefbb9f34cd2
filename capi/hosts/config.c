/* A manager from a file of settings: no store, no source, no option here. Usage: config FILE NAME */
#define _POSIX_C_SOURCE 200809L
#include "host.h"

int main(int argc, char **argv) {
  tkm_manager *manager;
  tkm_token *token;
  tkm_error *error;
  size_t length;
  CHECK(argc == 3);
  CHECK(tkm_manager_from_config(NULL, argv[2], &manager, NULL) == TKM_NULL && manager == NULL);
  CHECK(tkm_manager_from_config(argv[1], "nobody", &manager, &error) == TKM_CONFIG && manager == NULL);
  printf("refused %s\n", tkm_error_message(error));
  tkm_error_free(error);
  CHECK_OK(tkm_manager_from_config(argv[1], argv[2], &manager, &error), error);
  CHECK_OK(tkm_manager_get(manager, &token, &error), error);
  CHECK(tkm_token_secret(token, &length) != NULL);
  printf("token %.*s\n", (int)length, tkm_token_secret(token, NULL));
  tkm_token_free(token);
  CHECK(tkm_manager_free(manager, 10000) == TKM_OK);
  return 0;
}
