/* The tokens of many tenants in one process: many REDIS */
#define _POSIX_C_SOURCE 200809L
#include <sys/wait.h>

#include "host.h"

enum { THREADS = 25, KEYS = 1000 };

/* How often each tenant was asked for, and how often the counts were destroyed. */
static struct {
  pthread_mutex_t lock;
  int asked[KEYS], all, destroyed;
} books = {PTHREAD_MUTEX_INITIALIZER, {0}, 0, 0};

/* Grants "tenant-7 1", "tenant-7 2" …; tenant-13 has no entry. */
static void fetch(void *user_data, const tkm_attempt *attempt, tkm_reply *reply) {
  size_t length = 0;
  const char *key = tkm_attempt_key(attempt, &length);
  char secret[64];
  int tenant, count;
  CHECK(user_data == &books && key != NULL && strlen(key) == length && sscanf(key, "tenant-%d", &tenant) == 1);
  pthread_mutex_lock(&books.lock);
  count = ++books.asked[tenant];
  books.all++;
  pthread_mutex_unlock(&books.lock);
  if (tenant == 13) {
    CHECK(tkm_reply_credentials_rejected(reply, "no entry") == TKM_OK);
  } else {
    snprintf(secret, sizeof secret, "%.*s %d", (int)length, key, count);
    CHECK(tkm_reply_token(reply, secret, strlen(secret), 3600 * 1000) == TKM_OK);
  }
}

static void destroy(void *user_data) {
  CHECK(user_data == &books);
  books.destroyed++;
}

/* Has another source for one tenant, and impossible settings for another. */
static int eaches, each_gone;

static void special(void *user_data, const tkm_attempt *attempt, tkm_reply *reply) {
  CHECK(user_data == &eaches && strcmp(tkm_attempt_key(attempt, NULL), "tenant-special") == 0);
  CHECK(tkm_reply_token(reply, "special", strlen("special"), 3600 * 1000) == TKM_OK);
}

static void each(void *user_data, const char *key, tkm_options *options) {
  CHECK(user_data == &eaches);
  eaches++;
  if (strcmp(key, "tenant-special") == 0) CHECK(tkm_options_source(options, special, &eaches, NULL) == TKM_OK);
  if (strcmp(key, "tenant-absurd") == 0) CHECK(tkm_options_deadline_ms(options, 0) == TKM_OK);
}

static void each_destroyed(void *user_data) {
  CHECK(user_data == &eaches);
  each_gone++;
}

static tkm_options *options_of(const char *name, const char *redis) {
  tkm_options *options = tkm_options_new(name);
  tkm_redis_options *patient = tkm_redis_options_new();
  tkm_store *store = NULL;
  tkm_error *error = NULL;
  /* Under valgrind, on a busy machine, nothing is quick. */
  CHECK(tkm_redis_options_connect_ms(patient, 10000) == TKM_OK && tkm_redis_options_io_ms(patient, 10000) == TKM_OK);
  CHECK(tkm_redis_options_pool_wait_ms(patient, 10000) == TKM_OK);
  CHECK(tkm_options_lease_ms(options, 60000) == TKM_OK && tkm_options_deadline_ms(options, 120000) == TKM_OK);
  CHECK_OK(tkm_store_redis(redis, patient, &store, &error), error);
  tkm_redis_options_free(patient);
  CHECK(tkm_options_store(options, store) == TKM_OK);
  tkm_store_free(store);
  CHECK(tkm_options_source(options, fetch, &books, destroy) == TKM_OK);
  return options;
}

static tkm_managers *managers_of(tkm_options *options) {
  tkm_managers *managers = NULL;
  tkm_error *error = NULL;
  CHECK_OK(tkm_managers_new(options, &managers, &error), error);
  return managers;
}

/* Checks the secret of this tenant's token, the `count`th, and refuses it if told to. */
static void expect(const tkm_managers *managers, int tenant, int count, int refuse) {
  tkm_token *token = NULL;
  tkm_error *error = NULL;
  char key[32], wanted[64], got[64];
  snprintf(key, sizeof key, "tenant-%d", tenant);
  snprintf(wanted, sizeof wanted, "%s %d", key, count);
  CHECK_OK(tkm_managers_get(managers, key, &token, &error), error);
  CHECK(tkm_token_copy_secret(token, got, sizeof got) == strlen(wanted) && strcmp(got, wanted) == 0);
  if (refuse) CHECK_OK(tkm_managers_invalidate(managers, key, token, &error), error);
  tkm_token_free(token);
}

static void *visit_all(void *managers) {
  int tenant;
  for (tenant = 0; tenant < KEYS; tenant++)
    if (tenant != 13) expect((const tkm_managers *)managers, tenant, 1, 0);
  return NULL;
}

static void refused(const tkm_managers *managers, const char *key, int32_t code, const char *because) {
  tkm_token *token = NULL;
  tkm_error *error = NULL;
  CHECK(tkm_managers_get_within(managers, key, 60000, &token, &error) == code && token == NULL);
  CHECK(tkm_error_code(error) == code && strstr(tkm_error_message(error), because) != NULL);
  tkm_error_free(error);
}

/* A child goes on with its parent's tokens, and destroys nothing of its parent's. */
static void fork_with(tkm_managers *managers) {
  int status;
  pid_t child;
  fflush(NULL);
  child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(120);
    expect(managers, 1, 1, 0);
    expect(managers, 999, 1, 0);
    CHECK(tkm_managers_free(managers, 10000) == TKM_OK && books.all == KEYS && books.destroyed == 0);
    /* Not by exit: what a child leaks of its parent's is no leak that valgrind is to find. */
    execlp("true", "true", (char *)NULL);
    _exit(1);
  }
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void nonsense(const char *redis) {
  tkm_options *options = options_of("absurd", redis);
  tkm_managers *managers = NULL;
  tkm_error *error = NULL;
  CHECK(tkm_options_workers(options, 1) == TKM_OK);
  CHECK(tkm_managers_new(options, &managers, &error) == TKM_CONFIG && managers == NULL && books.destroyed == 1);
  CHECK(strstr(tkm_error_message(error), "workers is 1") != NULL);
  tkm_error_free(error);
  options = tkm_options_new("no-source");
  CHECK(tkm_managers_new(options, &managers, &error) == TKM_CONFIG && managers == NULL);
  CHECK(strstr(tkm_error_message(error), "no source is set") != NULL);
  tkm_error_free(error);
  books.destroyed = 0;
  printf("ok nonsense\n");
}

int main(int argc, char **argv) {
  tkm_managers *managers, *few;
  tkm_manager *one = NULL;
  tkm_token *token = NULL;
  tkm_fresh *fresh = NULL;
  tkm_error *error = NULL;
  tkm_stats stats;
  tkm_options *options;
  pthread_t threads[THREADS];
  const char *const stored[] = {"tenant-100", "tenant-101", "tenant-never"};
  size_t needed, valid = 0;
  int i;
  CHECK(argc == 2);
  setvbuf(stdout, NULL, _IOLBF, 0);
  nonsense(argv[1]);

  managers = managers_of(options_of("crm", argv[1]));
  for (i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, visit_all, managers) == 0);
  for (i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(books.all == KEYS - 1 && tkm_managers_len(managers) == KEYS - 1);
  CHECK(tkm_managers_stats(managers, &stats, sizeof stats) == TKM_OK);
  CHECK(stats.fetches == KEYS - 1 && stats.adopted == KEYS - 1 && stats.expires_in_ms == -1);
  CHECK(tkm_managers_openmetrics(managers, NULL, 0, &needed) == TKM_OK && needed > 100);
  printf("ok %d threads, %d keys, %d fetches\n", THREADS, KEYS - 1, books.all);

  refused(managers, "tenant-13", TKM_CREDENTIALS_REJECTED, "no entry");
  expect(managers, 12, 1, 0);
  refused(managers, "", TKM_CONFIG, "empty");
  refused(managers, "two words", TKM_CONFIG, "two words");
  refused(managers, "\xff", TKM_NOT_UTF8, "key");
  refused(managers, NULL, TKM_NULL, "key");
  CHECK(tkm_managers_get(managers, "tenant-1", NULL, NULL) == TKM_NULL);
  CHECK(tkm_managers_invalidate(managers, "tenant-1", NULL, NULL) == TKM_NULL);
  CHECK(tkm_managers_forget(managers, NULL) == -1 && tkm_managers_forget(managers, "nobody") == 0);
  printf("ok keys that fail\n");

  fork_with(managers);
  printf("ok forked\n");

  CHECK_OK(tkm_managers_keep_fresh(managers, &fresh, &error), error);
  expect(managers, 7, 1, 1);
  expect(managers, 7, 2, 0);
  expect(managers, 8, 1, 0);
  CHECK(books.all == KEYS + 1);
  CHECK(tkm_managers_forget(managers, "tenant-7") == 1 && tkm_managers_len(managers) == KEYS - 1);
  expect(managers, 7, 2, 0);
  CHECK(books.all == KEYS + 1);
  tkm_fresh_free(fresh);
  printf("ok invalidated\n");

  options = options_of("crm", argv[1]);
  CHECK(tkm_options_max_keys(options, 10) == TKM_OK && tkm_options_forget_after_ms(options, 600000) == TKM_OK);
  CHECK(tkm_options_workers(options, 8) == TKM_OK && tkm_options_workers_per_group(options, 4) == TKM_OK);
  few = managers_of(options);
  CHECK_OK(tkm_managers_load(few, stored, 3, &valid, &error), error);
  CHECK(valid == 2 && tkm_managers_len(few) == 3 && books.all == KEYS + 1);
  for (i = 100; i < 200; i++) {
    expect(few, i, 1, 0);
    CHECK(tkm_managers_len(few) <= 10);
  }
  CHECK(tkm_managers_len(few) == 10 && books.all == KEYS + 1);
  CHECK(tkm_managers_free(few, 60000) == TKM_OK && books.destroyed == 1);
  printf("ok no more than 10 keys\n");

  options = options_of("crm", argv[1]);
  CHECK(tkm_options_each(options, NULL, &eaches, each_destroyed) == TKM_NULL && each_gone == 1);
  CHECK(tkm_options_each(options, each, &eaches, each_destroyed) == TKM_OK);
  few = managers_of(options);
  expect(few, 8, 1, 0);
  refused(few, "tenant-absurd", TKM_CONFIG, "deadline");
  CHECK_OK(tkm_managers_get(few, "tenant-special", &token, &error), error);
  CHECK(strncmp(tkm_token_secret(token, NULL), "special", strlen("special")) == 0 && eaches == 3 && books.all == KEYS + 1);
  tkm_token_free(token);
  CHECK(tkm_managers_free(few, 60000) == TKM_OK && each_gone == 2 && books.destroyed == 2);
  books.destroyed = 1;
  printf("ok settings of each key\n");

  CHECK_OK(tkm_managers_manager(managers, "tenant-5", &one, &error), error);
  CHECK(tkm_managers_free(managers, 60000) == TKM_OK && books.destroyed == 1);
  CHECK_OK(tkm_manager_get(one, &token, &error), error);
  CHECK(tkm_manager_invalidate(one, token) == TKM_OK);
  tkm_token_free(token);
  CHECK_OK(tkm_manager_get(one, &token, &error), error);
  CHECK(books.asked[5] == 2 && books.destroyed == 1);
  tkm_token_free(token);
  CHECK(tkm_manager_free(one, 60000) == TKM_OK && books.destroyed == 2);
  printf("ok the last one destroys\n");
  return 0;
}
