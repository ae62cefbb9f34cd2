/* What a program must not do, and what it gets for it. Usage: misuse REDIS ISSUER [twice]; `twice` frees an error twice. */
#define _POSIX_C_SOURCE 200809L
#include "host.h"

static void nulls(void) {
  tkm_error *error = NULL;
  tkm_store *store = NULL;
  tkm_token *token = NULL;
  tkm_manager *manager = NULL;
  tkm_fresh *fresh = NULL;
  tkm_stats stats;
  tkm_inspection seen;
  size_t length = 7;
  char owner[37], text[4] = "abc";
  CHECK(tkm_error_code(NULL) == 0 && tkm_error_message(NULL) != NULL && tkm_error_retry_after_ms(NULL) == -1);
  CHECK(tkm_store_redis(NULL, NULL, &store, &error) == TKM_NULL && store == NULL && error != NULL);
  CHECK(tkm_error_code(error) == TKM_NULL && strstr(tkm_error_message(error), "url") != NULL);
  tkm_error_free(error);
  CHECK(tkm_store_redis("redis://127.0.0.1/", NULL, NULL, NULL) == TKM_NULL);
  CHECK(tkm_options_new(NULL) == NULL && tkm_options_new("\xff") == NULL);
  CHECK(tkm_options_store(NULL, NULL) == TKM_NULL);
  CHECK(tkm_options_source(NULL, NULL, NULL, NULL) == TKM_NULL);
  CHECK(tkm_options_namespace(NULL, "a") == TKM_NULL && tkm_options_group(NULL, "a") == TKM_NULL);
  CHECK(tkm_options_egress(NULL, "a") == TKM_NULL && tkm_options_budget(NULL, 1, 1) == TKM_NULL);
  CHECK(tkm_options_fetch_limit_ms(NULL, 1) == TKM_NULL && tkm_options_lease_ms(NULL, 1) == TKM_NULL);
  CHECK(tkm_options_deadline_ms(NULL, 1) == TKM_NULL && tkm_options_execution(NULL, 0) == TKM_NULL);
  CHECK(tkm_options_refresh_before_ms(NULL, 1) == TKM_NULL && tkm_options_refresh_before_share(NULL, 0.1) == TKM_NULL);
  CHECK(tkm_options_when_away(NULL, NULL, 1, 1) == TKM_NULL && tkm_options_serve_stale_ms(NULL, 1) == TKM_NULL);
  CHECK(tkm_token_is_stale(NULL) == -1);
  CHECK(tkm_options_margin_ms(NULL, 1) == TKM_NULL && tkm_options_margin_share(NULL, 0.1) == TKM_NULL);
  CHECK(tkm_manager_new(NULL, &manager, &error) == TKM_NULL && manager == NULL && error != NULL);
  tkm_error_free(error);
  CHECK(tkm_manager_get(NULL, &token, NULL) == TKM_NULL && token == NULL);
  CHECK(tkm_manager_get_within(NULL, 1, NULL, NULL) == TKM_NULL);
  CHECK(tkm_manager_invalidate(NULL, NULL) == TKM_NULL && tkm_manager_stats(NULL, &stats, sizeof stats) == TKM_NULL);
  CHECK(tkm_manager_openmetrics(NULL, NULL, 0, NULL) == TKM_NULL);
  CHECK(tkm_manager_inspect(NULL, &seen, sizeof seen, NULL) == TKM_NULL && tkm_manager_owner(NULL, owner) == TKM_NULL);
  CHECK(tkm_manager_keep_fresh(NULL, &fresh, NULL) == TKM_NULL && fresh == NULL);
  CHECK(tkm_manager_free(NULL, 0) == TKM_OK);
  CHECK(tkm_options_max_keys(NULL, 1) == TKM_NULL && tkm_options_forget_after_ms(NULL, 1) == TKM_NULL);
  CHECK(tkm_options_workers(NULL, 2) == TKM_NULL && tkm_options_workers_per_group(NULL, 2) == TKM_NULL);
  CHECK(tkm_managers_new(NULL, NULL, NULL) == TKM_NULL && tkm_managers_free(NULL, 0) == TKM_OK);
  CHECK(tkm_managers_get(NULL, "a", &token, NULL) == TKM_NULL && tkm_managers_get_within(NULL, "a", 1, NULL, NULL) == TKM_NULL);
  CHECK(tkm_managers_invalidate(NULL, "a", NULL, NULL) == TKM_NULL && tkm_managers_manager(NULL, "a", &manager, NULL) == TKM_NULL);
  CHECK(tkm_managers_load(NULL, NULL, 1, NULL, NULL) == TKM_NULL);
  CHECK(tkm_managers_forget(NULL, "a") == -1 && tkm_managers_len(NULL) == 0);
  CHECK(tkm_managers_keep_fresh(NULL, &fresh, NULL) == TKM_NULL && tkm_managers_stats(NULL, &stats, sizeof stats) == TKM_NULL);
  CHECK(tkm_managers_openmetrics(NULL, NULL, 0, NULL) == TKM_NULL && tkm_attempt_key(NULL, &length) == NULL);
  CHECK(tkm_token_secret(NULL, &length) == NULL && length == 0 && tkm_token_copy_secret(NULL, text, 4) == 0);
  CHECK(tkm_token_generation(NULL) == 0 && tkm_token_expires_in_ms(NULL) == 0);
  CHECK(tkm_attempt_remaining_ms(NULL) == 0 && tkm_attempt_generation(NULL) == 0);
  CHECK(tkm_attempt_owner(NULL) != NULL && tkm_attempt_carry(NULL, NULL) == NULL);
  CHECK(tkm_attempt_presented_ms(NULL) == -1);
  CHECK(tkm_reply_token(NULL, "a", 1, 1) == TKM_NULL && tkm_reply_carry(NULL, "a", 1, 1) == TKM_NULL);
  CHECK(tkm_reply_throttled(NULL, 1) == TKM_NULL && tkm_reply_unavailable(NULL, NULL) == TKM_NULL);
  CHECK(tkm_reply_credentials_rejected(NULL, NULL) == TKM_NULL && tkm_reply_unknown_outcome(NULL, NULL) == TKM_NULL);
  CHECK(tkm_reply_retry_after(NULL, 1) == TKM_NULL && tkm_reply_because(NULL, "a") == TKM_NULL);
  CHECK(tkm_redis_options_connect_ms(NULL, 1) == TKM_NULL && tkm_redis_options_io_ms(NULL, 1) == TKM_NULL);
  CHECK(tkm_redis_options_pool_wait_ms(NULL, 1) == TKM_NULL && tkm_redis_options_pool_size(NULL, 1) == TKM_NULL);
  CHECK(tkm_redis_options_wait_replicas(NULL, 1, 1) == TKM_NULL && tkm_redis_options_wait_aof(NULL, 1, 1) == TKM_NULL);
  CHECK(tkm_store_sealed(NULL, "keys", 0, &store, &error) == TKM_NULL && store == NULL && error != NULL);
  tkm_error_free(error);
  CHECK(tkm_redis_options_without_thread(NULL) == TKM_NULL && tkm_manager_lift_pause(NULL, NULL) == TKM_NULL);
  CHECK(tkm_redis_options_ca_file(NULL, "a") == TKM_NULL && tkm_redis_options_ca_pem(NULL, "a", 1) == TKM_NULL);
  CHECK(tkm_redis_options_identity_files(NULL, "a", "a") == TKM_NULL && tkm_redis_options_server_name(NULL, "a") == TKM_NULL);
  CHECK(tkm_redis_options_credentials(NULL, NULL, NULL, NULL) == TKM_NULL && tkm_redis_options_max_age_ms(NULL, 1) == TKM_NULL);
  CHECK(tkm_redis_options_credentials_file(NULL, "a") == TKM_NULL && tkm_login_set(NULL, "a", "a") == TKM_NULL);
  CHECK(tkm_login_unavailable(NULL, "a") == TKM_NULL);
  tkm_redis_options_free(NULL);
  CHECK(tkm_store_file(NULL, &store, NULL) == TKM_NULL && tkm_store_file("/tmp", NULL, NULL) == TKM_NULL);
  CHECK(tkm_store_file("/proc/none", &store, &error) == TKM_CONFIG && store == NULL && error != NULL);
  tkm_error_free(error);
  CHECK(tkm_set_log(NULL, NULL, 6) == TKM_CONFIG);
  tkm_error_free(NULL), tkm_store_free(NULL), tkm_options_free(NULL), tkm_token_free(NULL), tkm_fresh_free(NULL);
  printf("ok NULL\n");
}

/* `destroy` is called once, whatever becomes of the options. */
static void destroyed_once(const char *redis, struct issuer *issuer) {
  tkm_options *options;
  tkm_manager *manager = NULL;
  tkm_error *error = NULL;
  tkm_options_free(options_for("unused", redis, issuer));
  CHECK(issuer->destroyed == 1);
  options = tkm_options_new("no-store");
  CHECK(tkm_options_source(options, issuer_fetch, issuer, issuer_destroy) == TKM_OK);
  CHECK(tkm_manager_new(options, &manager, &error) == TKM_CONFIG && manager == NULL);
  CHECK(tkm_error_code(error) == TKM_CONFIG && strstr(tkm_error_message(error), "store") != NULL);
  tkm_error_free(error);
  CHECK(issuer->destroyed == 2);
  CHECK(tkm_options_source(NULL, issuer_fetch, issuer, issuer_destroy) == TKM_NULL && issuer->destroyed == 3);
  options = tkm_options_new("no-function");
  CHECK(tkm_options_source(options, NULL, issuer, issuer_destroy) == TKM_NULL && issuer->destroyed == 4);
  CHECK(tkm_options_source(options, issuer_fetch, issuer, issuer_destroy) == TKM_OK && issuer->destroyed == 4);
  CHECK(tkm_options_source(options, issuer_fetch, issuer, issuer_destroy) == TKM_OK && issuer->destroyed == 5);
  CHECK(tkm_options_execution(options, 7) == TKM_CONFIG);
  tkm_options_free(options);
  CHECK(issuer->destroyed == 6);
  CHECK(tkm_manager_free(manager_for("at-once", redis, issuer), 1000) == TKM_OK && issuer->destroyed == 7);
  issuer->destroyed = 0;
  printf("ok destroyed once\n");
}

/* Makes a manager whose window is refused, and frees all; the message names this setting. */
static void window_refused(tkm_options *options, const char *setting) {
  tkm_manager *manager = NULL;
  tkm_error *error = NULL;
  CHECK(tkm_manager_new(options, &manager, &error) == TKM_CONFIG && manager == NULL);
  CHECK(strstr(tkm_error_message(error), setting) != NULL);
  tkm_error_free(error);
}

static void windows(const char *redis, struct issuer *issuer) {
  tkm_options *options = options_for("window", redis, issuer);
  CHECK(tkm_options_refresh_before_share(options, 0.5) == TKM_OK);
  window_refused(options, "refresh_before is Share(0.5)");
  options = options_for("window", redis, issuer);
  CHECK(tkm_options_refresh_before_ms(options, 0) == TKM_OK);
  window_refused(options, "refresh_before is Span(0ns)");
  options = options_for("window", redis, issuer);
  CHECK(tkm_options_margin_share(options, 0.15) == TKM_OK);
  window_refused(options, "margin is Share(0.15)");
  options = options_for("window", redis, issuer);
  CHECK(tkm_options_refresh_before_ms(options, 10000) == TKM_OK && tkm_options_margin_ms(options, 6000) == TKM_OK);
  window_refused(options, "margin is Span(6s)");
  issuer->destroyed = 0;
  printf("ok windows\n");
}

/* A program that was compiled for an older, smaller structure, and one for a newer, larger one. */
static void sizes(const char *redis, struct issuer *issuer) {
  tkm_manager *manager = manager_for("sizes", redis, issuer);
  tkm_token *token = NULL;
  tkm_error *error = NULL;
  unsigned char room[sizeof(tkm_inspection) + 32];
  tkm_stats stats;
  tkm_inspection seen;
  size_t at;
  CHECK_OK(tkm_manager_get(manager, &token, &error), error);
  CHECK(tkm_manager_stats(manager, &stats, sizeof stats) == TKM_OK && stats.fetches == 1);
  memset(room, 0xee, sizeof room);
  CHECK(tkm_manager_stats(manager, (tkm_stats *)room, 16) == TKM_OK && memcmp(room, &stats, 16) == 0);
  for (at = 16; at < sizeof room; at++) CHECK(room[at] == 0xee);
  CHECK(tkm_manager_stats(manager, (tkm_stats *)room, sizeof stats + 8) == TKM_OK);
  CHECK(memcmp(room, &stats, sizeof stats) == 0);
  for (at = sizeof stats; at < sizeof stats + 8; at++) CHECK(room[at] == 0);
  for (; at < sizeof room; at++) CHECK(room[at] == 0xee);
  CHECK_OK(tkm_manager_inspect(manager, &seen, sizeof seen, &error), error);
  memset(room, 0xee, sizeof room);
  CHECK_OK(tkm_manager_inspect(manager, (tkm_inspection *)room, 8, &error), error);
  CHECK(memcmp(room, &seen.generation, 8) == 0 && seen.generation == tkm_token_generation(token));
  for (at = 8; at < sizeof room; at++) CHECK(room[at] == 0xee);
  CHECK_OK(tkm_manager_inspect(manager, (tkm_inspection *)room, sizeof seen + 16, &error), error);
  CHECK(memcmp(room, &seen.generation, 8) == 0);
  for (at = sizeof seen; at < sizeof seen + 16; at++) CHECK(room[at] == 0);
  for (; at < sizeof room; at++) CHECK(room[at] == 0xee);
  tkm_token_free(token);
  CHECK(tkm_manager_free(manager, 1000) == TKM_OK);
  issuer->destroyed = 0;
  printf("ok sizes\n");
}

static void redis_options(const char *url) {
  tkm_redis_options *options = tkm_redis_options_new();
  tkm_store *store = NULL;
  tkm_error *error = NULL;
  CHECK(tkm_redis_options_connect_ms(options, 200) == TKM_OK && tkm_redis_options_io_ms(options, 400) == TKM_OK);
  CHECK(tkm_redis_options_pool_wait_ms(options, 100) == TKM_OK && tkm_redis_options_pool_size(options, 0) == TKM_OK);
  CHECK(tkm_redis_options_without_thread(options) == TKM_OK);
  CHECK(tkm_store_redis(url, options, &store, &error) == TKM_CONFIG && store == NULL);
  CHECK(strstr(tkm_error_message(error), "pool_size is 0") != NULL);
  tkm_error_free(error);
  CHECK(tkm_redis_options_pool_size(options, 2) == TKM_OK);
  CHECK_OK(tkm_store_redis(url, options, &store, &error), error);
  tkm_redis_options_free(options);
  tkm_store_free(store);
  printf("ok redis options\n");
}

/* An issuer that is out of order and says for how long: 503 with Retry-After. */
static void out_of_order(void *user_data, const tkm_attempt *attempt, tkm_reply *reply) {
  (void)attempt;
  ++*(int *)user_data;
  CHECK(tkm_reply_retry_after(reply, 7000) == TKM_CONFIG && tkm_reply_because(reply, "early") == TKM_CONFIG);
  CHECK(tkm_reply_throttled(reply, -1) == TKM_OK && tkm_reply_because(reply, "all quiet at the issuer") == TKM_OK);
  CHECK(tkm_reply_retry_after(reply, 7000) == TKM_OK);
}

static void pauses(void) {
  tkm_store *store = tkm_store_memory();
  tkm_options *options = tkm_options_new("pauses");
  tkm_manager *manager = NULL;
  tkm_token *token = NULL;
  tkm_error *error = NULL;
  int asked = 0;
  CHECK(tkm_options_store(options, store) == TKM_OK);
  CHECK(tkm_options_source(options, out_of_order, &asked, NULL) == TKM_OK);
  tkm_store_free(store);
  CHECK_OK(tkm_manager_new(options, &manager, &error), error);
  CHECK(tkm_manager_get(manager, &token, &error) == TKM_THROTTLED && asked == 1);
  CHECK(tkm_error_retry_after_ms(error) > 5000 && tkm_error_retry_after_ms(error) <= 7000);
  CHECK(strstr(tkm_error_message(error), "all quiet at the issuer") != NULL);
  tkm_error_free(error);
  CHECK(tkm_manager_get(manager, &token, &error) == TKM_THROTTLED && asked == 1);
  tkm_error_free(error);
  CHECK_OK(tkm_manager_lift_pause(manager, &error), error);
  CHECK(tkm_manager_get(manager, &token, &error) == TKM_THROTTLED && asked == 2);
  tkm_error_free(error);
  CHECK(tkm_manager_free(manager, 1000) == TKM_OK);
  printf("ok pauses\n");
}

/* A token that lives for 50 ms, and then an issuer that is away. */
static void brief(void *user_data, const tkm_attempt *attempt, tkm_reply *reply) {
  (void)attempt;
  if (++*(int *)user_data == 1) {
    CHECK(tkm_reply_token(reply, "brief", 5, 50) == TKM_OK);
  } else {
    CHECK(tkm_reply_unavailable(reply, "away") == TKM_OK);
  }
}

static void stale(void) {
  tkm_store *store = tkm_store_memory();
  tkm_options *options = tkm_options_new("stale");
  tkm_manager *manager = NULL;
  tkm_token *token = NULL;
  tkm_error *error = NULL;
  struct timespec pause = {0, 60 * 1000 * 1000};
  int asked = 0;
  CHECK(tkm_options_store(options, store) == TKM_OK);
  CHECK(tkm_options_when_away(options, store, 60, 10) == TKM_OK);
  CHECK(tkm_options_serve_stale_ms(options, 60000) == TKM_OK);
  CHECK(tkm_options_source(options, brief, &asked, NULL) == TKM_OK);
  tkm_store_free(store);
  CHECK_OK(tkm_manager_new(options, &manager, &error), error);
  CHECK_OK(tkm_manager_get(manager, &token, &error), error);
  CHECK(tkm_token_is_stale(token) == 0);
  tkm_token_free(token);
  nanosleep(&pause, NULL);
  CHECK_OK(tkm_manager_get(manager, &token, &error), error);
  CHECK(tkm_token_is_stale(token) == 1 && tkm_token_expires_in_ms(token) == 0);
  CHECK(tkm_manager_invalidate(manager, token) == TKM_OK);
  tkm_token_free(token);
  CHECK(tkm_manager_get(manager, &token, &error) == TKM_UNAVAILABLE);
  tkm_error_free(error);
  CHECK(tkm_manager_free(manager, 1000) == TKM_OK);
  printf("ok stale\n");
}

static void silent(void *user_data, const tkm_attempt *attempt, tkm_reply *reply) {
  CHECK(user_data == NULL && tkm_attempt_generation(attempt) > 0 && strlen(tkm_attempt_owner(attempt)) == 36);
  CHECK(tkm_reply_carry(reply, "a", 1, 1) == TKM_CONFIG && tkm_reply_token(reply, NULL, 1, 1) == TKM_NULL);
}

static void no_reply(void) {
  tkm_store *store = tkm_store_memory();
  tkm_options *options = tkm_options_new("silent");
  tkm_manager *manager = NULL;
  tkm_token *token = NULL;
  tkm_error *error = NULL;
  CHECK(tkm_options_store(options, store) == TKM_OK);
  CHECK(tkm_options_source(options, silent, NULL, NULL) == TKM_OK);
  tkm_store_free(store);
  CHECK_OK(tkm_manager_new(options, &manager, &error), error);
  CHECK(tkm_manager_get_within(manager, 500, &token, &error) == TKM_UNKNOWN_OUTCOME && token == NULL);
  CHECK(tkm_error_retry_after_ms(error) > 0 && strstr(tkm_error_message(error), "no reply") != NULL);
  tkm_error_free(error);
  CHECK(tkm_manager_free(manager, 1000) == TKM_OK);
  printf("ok no reply\n");
}

/* The manager is freed while its callback hangs. */
static void busy(const char *redis, struct issuer *issuer) {
  tkm_manager *manager = manager_for("busy", redis, issuer);
  tkm_token *token = NULL;
  issuer_control(issuer, "hold=1");
  CHECK(tkm_manager_get_within(manager, 0, &token, NULL) == TKM_TIMEOUT && token == NULL);
  issuer_await(issuer, &issuer->asked, 1);
  CHECK(tkm_manager_free(manager, 50) == TKM_BUSY && issuer->destroyed == 0);
  issuer_control(issuer, "hold=0");
  issuer_await(issuer, &issuer->destroyed, 1);
  printf("ok busy\n");
}

int main(int argc, char **argv) {
  static struct issuer issuer;
  CHECK(argc >= 3);
  issuer_init(&issuer, argv[2]);
  if (argc == 4 && strcmp(argv[3], "twice") == 0) {
    tkm_error *error = NULL;
    CHECK(tkm_store_redis(NULL, NULL, NULL, &error) == TKM_NULL);
    tkm_error_free(error);
    tkm_error_free(error);
    return 0;
  }
  nulls();
  destroyed_once(argv[1], &issuer);
  windows(argv[1], &issuer);
  sizes(argv[1], &issuer);
  redis_options(argv[1]);
  pauses();
  stale();
  no_reply();
  busy(argv[1], &issuer);
  return 0;
}
