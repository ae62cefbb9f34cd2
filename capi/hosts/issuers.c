/* The library's own sources: a program without a line of HTTP. Usage: issuers REDIS TOKEN_URL */
#define _POSIX_C_SOURCE 200809L
#include "host.h"

enum { THREADS = 25 };

/* Makes an issuer of a kind with these settings, names and values in turn, NULL at the end. */
static tkm_issuer *issuer_of(const char *kind, const char *const *settings) {
  tkm_issuer *issuer = NULL;
  tkm_error *error = NULL;
  CHECK_OK(tkm_issuer_new(kind, &issuer, &error), error);
  for (; *settings != NULL; settings += 2) CHECK_OK(tkm_issuer_set(issuer, settings[0], settings[1], &error), error);
  return issuer;
}

static tkm_manager *manager_of(const char *name, const char *redis, tkm_issuer *issuer) {
  tkm_options *options = tkm_options_new(name);
  tkm_manager *manager = NULL;
  tkm_redis_options *patient = tkm_redis_options_new();
  tkm_store *store = NULL;
  tkm_error *error = NULL;
  /* Under valgrind, on a busy machine, nothing is quick. */
  CHECK(tkm_redis_options_connect_ms(patient, 10000) == TKM_OK && tkm_redis_options_io_ms(patient, 10000) == TKM_OK);
  CHECK(tkm_options_lease_ms(options, 60000) == TKM_OK && tkm_options_deadline_ms(options, 60000) == TKM_OK);
  CHECK_OK(tkm_store_redis(redis, patient, &store, &error), error);
  tkm_redis_options_free(patient);
  CHECK(tkm_options_store(options, store) == TKM_OK);
  tkm_store_free(store);
  CHECK_OK(tkm_options_issuer(options, issuer, &error), error);
  CHECK_OK(tkm_manager_new(options, &manager, &error), error);
  return manager;
}

/* Checks the secret at hand, and refuses the token if told to. */
static void expect(const tkm_manager *manager, const char *secret, int refuse) {
  tkm_token *token = NULL;
  tkm_error *error = NULL;
  char got[64];
  CHECK_OK(tkm_manager_get(manager, &token, &error), error);
  CHECK(tkm_token_copy_secret(token, got, sizeof got) == strlen(secret));
  CHECK(strcmp(got, secret) == 0);
  if (refuse) CHECK(tkm_manager_invalidate(manager, token) == TKM_OK);
  tkm_token_free(token);
}

static void *visit(void *manager) {
  expect((const tkm_manager *)manager, "c-one", 0);
  return NULL;
}

static void client_credentials(const char *redis, const char *url) {
  const char *const settings[] = {"url", url, "client_id", "billing", "client_secret_env", "BILLING_SECRET",
                                  "scope", "read", NULL};
  tkm_manager *manager = manager_of("credentials", redis, issuer_of("client_credentials", settings));
  pthread_t threads[THREADS];
  int i;
  for (i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, visit, manager) == 0);
  for (i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(tkm_manager_free(manager, 10000) == TKM_OK);
  printf("ok client_credentials\n");
}

struct user {
  int logins;
  int destroyed;
};

static void log_in(void *data, const tkm_attempt *attempt, tkm_reply *reply) {
  struct user *user = (struct user *)data;
  CHECK(tkm_attempt_carry(attempt, NULL) == NULL && tkm_attempt_remaining_ms(attempt) > 0);
  user->logins++;
  CHECK(tkm_reply_token(reply, "first", 5, 3600 * 1000) == TKM_OK);
  CHECK(tkm_reply_carry(reply, "r-one", 5, 0) == TKM_OK);
}

static void user_gone(void *data) { ((struct user *)data)->destroyed++; }

static void refresh_token(const char *redis, const char *url) {
  const char *const settings[] = {"url", url, "client_id", "app", "reuse_window", "2.5", NULL};
  struct user user = {0, 0};
  tkm_issuer *issuer = issuer_of("refresh_token", settings);
  tkm_inspection seen;
  tkm_error *error = NULL;
  tkm_manager *manager;
  CHECK(tkm_issuer_login(issuer, log_in, &user, user_gone) == TKM_OK);
  manager = manager_of("refreshed", redis, issuer);
  expect(manager, "first", 1);
  expect(manager, "r-two for r-one", 1);
  expect(manager, "r-three for r-two", 0);
  CHECK_OK(tkm_manager_inspect(manager, &seen, sizeof seen, &error), error);
  CHECK(seen.carries == 1 && user.logins == 1 && user.destroyed == 0);
  CHECK(tkm_manager_free(manager, 10000) == TKM_OK);
  CHECK(user.destroyed == 1);
  printf("ok refresh_token\n");
}

static void command(const char *redis) {
  const char *const settings[] = {"program", "printf", "argument", "%s", "argument", "$not a shell",
                                  "plain_text", "true", "life", "3600", NULL};
  tkm_manager *manager = manager_of("command", redis, issuer_of("command", settings));
  expect(manager, "$not a shell", 0);
  CHECK(tkm_manager_free(manager, 10000) == TKM_OK);
  printf("ok command\n");
}

/* What is wrong is told by its name, and a value is not quoted. */
static void refused(int32_t code, tkm_error **error, const char *begins) {
  CHECK(code == TKM_CONFIG && tkm_error_code(*error) == TKM_CONFIG);
  CHECK(strncmp(tkm_error_message(*error), begins, strlen(begins)) == 0);
  CHECK(strstr(tkm_error_message(*error), "hunter2") == NULL);
  tkm_error_free(*error);
}

static void misuse(void) {
  const char *const nothing[] = {NULL};
  tkm_options *options = tkm_options_new("t");
  tkm_issuer *issuer = NULL;
  tkm_error *error = NULL;
  struct user user = {0, 0};
  refused(tkm_issuer_new("oauth", &issuer, &error), &error, "kind: there is none of this name; use client_credentials, ");
  CHECK(issuer == NULL);
  issuer = issuer_of("wecom", nothing);
  refused(tkm_issuer_set(issuer, "secrets", "hunter2", &error), &error, "set: wecom has no such setting; it has corp_id, ");
  refused(tkm_issuer_set(issuer, "no_proxy", "hunter2", &error), &error, "no_proxy: is a choice");
  CHECK(tkm_issuer_set(issuer, NULL, "x", NULL) == TKM_NULL && tkm_issuer_set(issuer, "secret", "\xff", NULL) == TKM_NOT_UTF8);
  CHECK(tkm_issuer_new("wecom", NULL, NULL) == TKM_NULL && tkm_issuer_parent(issuer, NULL) == TKM_NULL);
  refused(tkm_options_issuer(options, issuer, &error), &error, "corp_id: is not set");
  CHECK(tkm_options_issuer(options, NULL, NULL) == TKM_NULL);
  issuer = issuer_of("wecom", nothing);
  CHECK(tkm_options_issuer(NULL, issuer, NULL) == TKM_NULL);

  /* Whatever comes of it, the data is destroyed once. */
  CHECK(tkm_issuer_login(NULL, log_in, &user, user_gone) == TKM_NULL && user.destroyed == 1);
  issuer = issuer_of("refresh_token", nothing);
  CHECK(tkm_issuer_login(issuer, NULL, &user, user_gone) == TKM_NULL && user.destroyed == 2);
  CHECK(tkm_issuer_login(issuer, log_in, &user, user_gone) == TKM_OK && user.destroyed == 2);
  tkm_issuer_free(issuer);
  CHECK(user.destroyed == 3);
  tkm_issuer_free(NULL);
  tkm_options_free(options);
  printf("ok misuse\n");
}

/* A ticket that is bought with the tokens of another manager. */
static void ticket(const char *redis, const char *base) {
  const char *const tokens[] = {"app_id", "wx01", "secret", "s", "base_url", base, NULL};
  const char *const tickets[] = {"base_url", base, NULL};
  tkm_manager *parent = manager_of("wechat", redis, issuer_of("wechat_stable", tokens));
  tkm_issuer *issuer = issuer_of("wechat_ticket", tickets);
  tkm_manager *manager;
  CHECK(tkm_issuer_parent(issuer, parent) == TKM_OK);
  manager = manager_of("wechat-ticket", redis, issuer);
  expect(manager, "ticket", 0);
  CHECK(tkm_manager_free(parent, 10000) == TKM_OK);
  expect(manager, "ticket", 1);
  expect(manager, "ticket", 0);
  CHECK(tkm_manager_free(manager, 10000) == TKM_OK);
  printf("ok wechat_ticket\n");
}

/* Whatever is asked for, no secret is in the log. */
static void hear(void *count, int32_t level, const char *message) {
  CHECK(level >= 1 && level <= 5);
  CHECK(strstr(message, "s3cret") == NULL && strstr(message, "-one") == NULL && strstr(message, "-two") == NULL);
  __atomic_add_fetch((int *)count, 1, __ATOMIC_RELAXED);
}

int main(int argc, char **argv) {
  static int heard;
  char url[128];
  CHECK(argc >= 3);
  setvbuf(stdout, NULL, _IOLBF, 0);
  CHECK(setenv("BILLING_SECRET", "s3cret &", 1) == 0);
  CHECK(tkm_set_log(hear, &heard, 5) == TKM_OK);
  snprintf(url, sizeof url, "%s/token", argv[2]);
  client_credentials(argv[1], url);
  refresh_token(argv[1], url);
  command(argv[1]);
  ticket(argv[1], argv[2]);
  misuse();
  CHECK(tkm_set_log(NULL, NULL, 0) == TKM_OK && heard > 0);
  return 0;
}
