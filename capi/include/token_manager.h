/* token_manager.h: one fresh token for every thread of every process, from C.
 *
 * Make options, give them a store and a source (your function that asks the issuer), make a manager, and call
 * tkm_manager_get from any thread. Link with -ltoken_manager (pkg-config token_manager). Or take one of the library's own
 * sources, under "Issuers" below: then your program needs no HTTP.
 *
 * Rules for all functions
 * - Codes: functions that can fail return TKM_OK or another TKM_ code. Where they take a `tkm_error **error` it may be NULL;
 *   otherwise it is set to NULL, or to an error that you own and free with tkm_error_free.
 * - NULL: an argument that must not be NULL gives TKM_NULL. Every ..._free takes NULL and does nothing. Reading functions
 *   return 0, NULL or -1 for a NULL handle.
 * - Texts are UTF-8. A `const char *` without a length ends with a NUL; it is read during the call only.
 * - Handles: what a function gives you is yours; free it once, with the function named at its type. Debug builds of the library
 *   end the program with a message when a handle is freed twice or used after that; other builds do not look.
 * - Threads: any thread may call, also one that Rust did not start. A const handle may be used by many threads at a time; a
 *   handle that is not const, and every ..._free, by one, while nobody else uses it.
 * - Durations are milliseconds.
 * - fork(): the child may go on with its copies of managers and tokens; it makes connections and state of its own. Guards
 *   (tkm_fresh) do nothing in the child: free them there and make new ones.
 * - Nothing unwinds or jumps into your program. Your callbacks must not throw, longjmp or cancel their thread out of the call.
 */
#ifndef TOKEN_MANAGER_H
#define TOKEN_MANAGER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TKM_VERSION "0.1.0"

/* Codes. A number never gets another meaning. */
#define TKM_OK 0
#define TKM_TIMEOUT 1          /* the deadline passed */
#define TKM_STORE 2            /* the store failed, and no valid token is at hand */
#define TKM_LIMITED 3          /* the fleet's budget forbids asking the issuer now; see tkm_error_retry_after_ms */
#define TKM_CONFIG 4           /* settings that are missing, absurd or contradict each other; the message names them */
#define TKM_REENTRANT 5        /* the fetch callback asked its own manager for a token */
#define TKM_THROTTLED 10       /* the issuer was asked too often */
#define TKM_UNAVAILABLE 11     /* the issuer cannot be reached or is out of order */
#define TKM_CREDENTIALS_REJECTED 12        /* the issuer refused the credentials */
#define TKM_UNKNOWN_OUTCOME 13 /* nobody knows whether the issuer granted a token */
#define TKM_NULL 20            /* an argument is NULL that must not be */
#define TKM_NOT_UTF8 21        /* a text is not UTF-8 */
#define TKM_PANIC 22           /* a bug in the library; it has been caught */
#define TKM_BUSY 23            /* tkm_manager_free did not see the last callback return */
#define TKM_OTHER 99

/* ---- Errors ------------------------------------------------------------------------------------------------------------
 * You own every error you are given; free it with tkm_error_free. An error never changes, so threads may share it. It holds
 * no secret of the library's; it quotes what your fetch callback gave as a message. */
typedef struct tkm_error tkm_error;

int32_t tkm_error_code(const tkm_error *error);
/* The whole chain of causes in one line; lives as long as the error. Never NULL. */
const char *tkm_error_message(const tkm_error *error);
/* How long to wait before asking again; -1 if nothing tells. */
int64_t tkm_error_retry_after_ms(const tkm_error *error);
void tkm_error_free(tkm_error *error);

/* ---- Stores ------------------------------------------------------------------------------------------------------------
 * Where the fleet meets. One store may serve many managers; they keep what they need, so you may free it once it is set. */
typedef struct tkm_store tkm_store;

/* The numbers of a Redis store, for tkm_store_redis, which copies them: free them with tkm_redis_options_free. Each function
 * changes one; its default stands beside it. What they may be is checked by tkm_store_redis. Not for several threads at a time. */
typedef struct tkm_redis_options tkm_redis_options;

tkm_redis_options *tkm_redis_options_new(void);
void tkm_redis_options_free(tkm_redis_options *options);
int32_t tkm_redis_options_connect_ms(tkm_redis_options *options, uint64_t ms);   /* making a connection: 300 */
int32_t tkm_redis_options_io_ms(tkm_redis_options *options, uint64_t ms);        /* one exchange with Redis: 500 */
int32_t tkm_redis_options_pool_wait_ms(tkm_redis_options *options, uint64_t ms); /* waiting for a free connection: 500 */
int32_t tkm_redis_options_pool_size(tkm_redis_options *options, uint32_t size);  /* connections, made when needed: 32 */
/* The store has no threads of its own: its pool limits how many connections are kept and not how many are in use, and a host's name
 * is looked up for as long as the system takes, unless the URL has an address. Without this call it has one for its pool, and one
 * while a name is looked up. */
int32_t tkm_redis_options_without_thread(tkm_redis_options *options);

/* A commit counts once so many replicas have it, within the limit (WAIT); wait_aof: once it is on the disk of the primary and of so
 * many replicas (WAITAOF, Redis 7.2). Until then it is used, kept and repeated. Without these calls: at once. */
int32_t tkm_redis_options_wait_replicas(tkm_redis_options *options, uint32_t count, uint64_t limit_ms);
int32_t tkm_redis_options_wait_aof(tkm_redis_options *options, uint32_t count, uint64_t limit_ms);

/* Makes a store in the Redis at redis://[user:password@]host[:port][/database], rediss:// for TLS, or unix:///path?db=…&user=…&pass=…;
 * add ?protocol=resp3 for RESP3. Behind Redis Sentinels, in the primary that they name:
 * redis+sentinel://[user:password@]sentinel[:port],sentinel[:port]/primary[/database][?sentinel_user=…&sentinel_password=…].
 * In a Redis Cluster, of which some nodes are named: redis+cluster://[user:password@]node[:port],node[:port]. For TLS to all of them
 * both begin with rediss+; sentinel_tls=false or true says otherwise of the sentinels. Never talks to Redis. `options` may be NULL. Codes: TKM_CONFIG if the URL cannot be read, a number is
 * absurd, or a certificate makes no sense. */
int32_t tkm_store_redis(const char *url, const tkm_redis_options *options, tkm_store **store, tkm_error **error);
/* Makes a store in files of this folder, for all processes of this host and user, without a server; the folder is made, for this
 * user alone, if it is not there. Unix only. Codes: TKM_CONFIG if the folder belongs to another user, or others may write there, or
 * it is on a remote file system. */
int32_t tkm_store_file(const char *folder, tkm_store **store, tkm_error **error);
/* Makes a store for this process alone. */
tkm_store *tkm_store_memory(void);
/* Makes a store that seals tokens and carried secrets by AES-256-GCM before `store` has them. Each line of the file is a key, as
 * `echo 2026a $(openssl rand -base64 32)` makes it; the first one seals, all open. It is read again each minute, and at once for a key
 * that is missing. A value that no key opens is TKM_STORE, and never a fetch. `accept_unsealed` other than 0 takes values in clear too. */
int32_t tkm_store_sealed(const tkm_store *store, const char *keys_file, int32_t accept_unsealed, tkm_store **sealed,
                         tkm_error **error);
void tkm_store_free(tkm_store *store);

/* ---- TLS to Redis --------------------------------------------------------------------------------------------------------
 * What rediss:// needs beyond the URL. Certificates are always checked, the host's name included. Files are read by tkm_store_redis,
 * and again for each connection. A library that was built without TLS refuses rediss:// there. */
/* Trusts the CAs of this file or text in PEM, and no others. Without a call: those that the system trusts. */
int32_t tkm_redis_options_ca_file(tkm_redis_options *options, const char *path);
int32_t tkm_redis_options_ca_pem(tkm_redis_options *options, const char *pem, size_t length);
/* Shows the certificates of the first file, and proves them with the key in the second, both in PEM. */
int32_t tkm_redis_options_identity_files(tkm_redis_options *options, const char *certificates, const char *key);
/* Expects a certificate for this name, where Redis is reached under another one. */
int32_t tkm_redis_options_server_name(tkm_redis_options *options, const char *name);

/* ---- Logins of Redis that expire -----------------------------------------------------------------------------------------
 * The callback tells as whom a connection logs in, each time one is made, and once more where Redis refused what it told. It runs on
 * the thread that needs the connection, several at a time; what it takes comes on top of the limit for connecting, so it ought to
 * answer from memory. It calls one of the tkm_login_ functions; none is a failure. `login` is the library's and must not be used after
 * the return. */
typedef struct tkm_login tkm_login;
typedef void (*tkm_credentials_fn)(void *user_data, tkm_login *login);

/* `user` may be NULL: that of the URL, or the default user. */
int32_t tkm_login_set(tkm_login *login, const char *user, const char *password);
/* There is no login to be had; `message` is shown in errors and logs. */
int32_t tkm_login_unavailable(tkm_login *login, const char *message);
/* `destroy` may be NULL; it is called once, also if this call fails, when nothing can call the callback any more. */
int32_t tkm_redis_options_credentials(tkm_redis_options *options, tkm_credentials_fn credentials, void *user_data,
                                      void (*destroy)(void *user_data));
/* A file that is read each time: a password, or a user and a password on a line each. */
int32_t tkm_redis_options_credentials_file(tkm_redis_options *options, const char *path);
/* Connections are renewed before they are older: no limit. */
int32_t tkm_redis_options_max_age_ms(tkm_redis_options *options, uint64_t ms);

/* ---- The fetch callback ------------------------------------------------------------------------------------------------
 * Asks the issuer for a token, when this process has won the right to. Runs on a thread of the library (or of the caller, with
 * TKM_EXECUTION_INLINE), one call at a time for each token, except that a call that overran the fetch limit is left behind while
 * another may start. It may block, and should give up within tkm_attempt_remaining_ms. `attempt` and `reply` are the library's
 * and must not be used after the return. Call one of the tkm_reply_ functions; the last one counts; none is an unknown outcome. */
typedef struct tkm_attempt tkm_attempt;
typedef struct tkm_reply tkm_reply;
typedef void (*tkm_fetch_fn)(void *user_data, const tkm_attempt *attempt, tkm_reply *reply);
/* Called once with the user_data, on any thread, when nothing can call the callback any more: also when no manager comes of
 * the options. Not called in a forked child for managers made before the fork. */
typedef void (*tkm_destroy_fn)(void *user_data);

uint64_t tkm_attempt_remaining_ms(const tkm_attempt *attempt);
uint64_t tkm_attempt_generation(const tkm_attempt *attempt);
/* The key whose token it is, of many (tkm_managers); NULL where there is one. Ends with a NUL; `length` (may be NULL) gets its length. */
const char *tkm_attempt_key(const tkm_attempt *attempt, size_t *length);
/* The UUID of this process in the store. */
const char *tkm_attempt_owner(const tkm_attempt *attempt);
/* What the fleet's last fetch carried over, such as a rotating refresh token; NULL if nothing. Does not end with a NUL:
 * `length` (may be NULL) gets its length. */
const char *tkm_attempt_carry(const tkm_attempt *attempt, size_t *length);
/* How long ago another fetch first presented what is carried to the issuer, if one did and nobody knows that it was not
 * consumed: present it again only within the window that the issuer allows, and log in anew otherwise. -1 if nobody did. */
int64_t tkm_attempt_presented_ms(const tkm_attempt *attempt);

/* The issuer granted this secret of `length` bytes for so long, counted from before the request was sent. */
int32_t tkm_reply_token(tkm_reply *reply, const char *secret, size_t length, uint64_t life_ms);
/* Hands a secret to the fleet's next fetch; after tkm_reply_token. `life_ms` 0: it does not expire. */
int32_t tkm_reply_carry(tkm_reply *reply, const char *secret, size_t length, uint64_t life_ms);
/* HTTP 429; all processes of this egress pause for so long, or -1: for a time of the library's choice. */
int32_t tkm_reply_throttled(tkm_reply *reply, int64_t retry_after_ms);
/* The issuer granted nothing: connection refused, HTTP 5xx. `message` may be NULL and is shown in errors and logs. */
int32_t tkm_reply_unavailable(tkm_reply *reply, const char *message);
/* The issuer refused the credentials. `message` as above. */
int32_t tkm_reply_credentials_rejected(tkm_reply *reply, const char *message);
/* The request was sent and no usable answer came. `message` as above. */
int32_t tkm_reply_unknown_outcome(tkm_reply *reply, const char *message);
/* After any failing reply: how long the issuer asked to be left alone, such as the Retry-After of a 503. The pause is then that
 * long, between 1 second and 1 hour. TKM_CONFIG if no failure was reported. */
int32_t tkm_reply_retry_after(tkm_reply *reply, uint64_t ms);
/* After any failing reply: what happened, in place of the message that stands; shown in errors and logs. */
int32_t tkm_reply_because(tkm_reply *reply, const char *message);

/* ---- Issuers -----------------------------------------------------------------------------------------------------------
 * Sources that the library brings, with their HTTP. Make one of a kind, set its settings, give it to the options in place of a
 * fetch callback. Not for several threads at a time. A library that was built without the feature `issuers` has none of this.
 *
 * Every setting is a text. It is set anew by each call, but where a `+` stands: there each call adds one more. Seconds are
 * written as 30 or 0.5, choices as true or false. Of a NAME.x the x is yours: parameter.tenant. A secret, marked with `*`, is
 * given itself (client_secret), by the path of a file (client_secret_file) or by an environment variable's name
 * (client_secret_env); files and variables are read anew for each fetch, so that they may change. A second one is tried where the
 * first is refused: second_client_secret, second_client_secret_file, second_client_secret_env. Keys and certificates are PEM.
 *
 * client_credentials (RFC 6749 4.4), refresh_token (6), jwt_bearer (RFC 7523), token_exchange (RFC 8693)
 *   url, or discover       the token endpoint; or the issuer that names it (RFC 8414)
 *   client_id, client_secret*, client_key*, client_key_id, client_audience, client_assertion*
 *                          who asks: with a secret, a key that signs an assertion, or an assertion that somebody else signed
 *   client_auth            basic, post, private_key, assertion, certificate, public: by default as what is set tells
 *   scope; audience+; resource+; parameter.NAME+; default_life    what for; seconds, where the issuer tells none: 300
 * refresh_token
 *   reuse_window           seconds in which the issuer takes a refresh token once more: 0
 *   first_refresh_token*   what a login left; or call tkm_issuer_login. Presented where the store has none, also if it lost one,
 *                          and at once where it is another one than those that were: the store knows, whatever is restarted
 * jwt_bearer
 *   key*, key_id, issuer, subject, assertion_audience, assertion_life, claim.NAME+; or assertion*
 * token_exchange
 *   subject_token*, subject_type, actor_token*, actor_type, wanted_type     types are URIs; access tokens by default
 * wechat_stable, wechat_classic     app_id, secret*, base_url; set the budget: 60, 10 for stable, 1, 10 for classic tokens
 * wechat_ticket          type (jsapi), base_url; bought with the tokens of another manager: tkm_issuer_parent; budget 1, 10
 * wecom                  corp_id, secret*, base_url; budget 60, 10
 * github_app             app_id, installation, key*, repository+, permission.NAME+, base_url; budget 8, 10
 * command                program, argument+, environment.NAME+, exit_code.NUMBER+ (throttled, unavailable, credentials_rejected,
 *                        unknown_outcome), plain_text, life. Prints JSON with access_token and expires_in or expires_at, and with a
 *                        refresh_token for its next run's standard input; or plain text that lives so many seconds. Unix only
 * all of them
 *   proxy* (a URL; the environment's), no_proxy, authority*, certificate*, certificate_key*, allow_plain_http    the way there
 *   probe_url, probe_limit     a new token is shown to this address until it takes it, so many seconds at most: 3 */
typedef struct tkm_issuer tkm_issuer;

/* Codes: TKM_CONFIG if there is no such kind; the message lists them. */
int32_t tkm_issuer_new(const char *kind, tkm_issuer **issuer, tkm_error **error);
/* Codes: TKM_CONFIG if the kind has no such setting, the message lists them, or the value is not of its form. */
int32_t tkm_issuer_set(tkm_issuer *issuer, const char *setting, const char *value, tkm_error **error);
/* For refresh_token: logs in where there is no refresh token, or none that may still be presented. `login` is called and answers as
 * a fetch callback, with tkm_reply_token and, for the refresh token, tkm_reply_carry. It must not bring a refresh token twice.
 * `destroy` may be NULL; it is called once even if this call fails. */
int32_t tkm_issuer_login(tkm_issuer *issuer, tkm_fetch_fn login, void *user_data, tkm_destroy_fn destroy);
/* Frees an issuer that was not given to options. */
void tkm_issuer_free(tkm_issuer *issuer);

/* ---- Options -----------------------------------------------------------------------------------------------------------
 * Settings of one manager; what they may be is checked by tkm_manager_new. Not for several threads at a time. tkm_manager_new
 * takes them; free them only if you do not call it. */
typedef struct tkm_options tkm_options;

#define TKM_EXECUTION_BACKGROUND 0
#define TKM_EXECUTION_INLINE 1

/* Starts the settings for the token of this name; NULL if the name is NULL or not UTF-8. */
tkm_options *tkm_options_new(const char *name);
void tkm_options_free(tkm_options *options);
/* Required. */
int32_t tkm_options_store(tkm_options *options, const tkm_store *store);
/* Required, or tkm_options_issuer. `destroy` may be NULL; it is called once even if this call or tkm_manager_new fails. */
int32_t tkm_options_source(tkm_options *options, tkm_fetch_fn fetch, void *user_data, tkm_destroy_fn destroy);
/* Instead of tkm_options_source. Takes the issuer in any case: do not free it. Nobody is asked yet.
 * Codes: TKM_CONFIG if a setting is missing or cannot be used; the message names it and says what to do. */
int32_t tkm_options_issuer(tkm_options *options, tkm_issuer *issuer, tkm_error **error);
int32_t tkm_options_namespace(tkm_options *options, const char *value); /* tm */
int32_t tkm_options_group(tkm_options *options, const char *value);     /* the name of the grant */
/* The grant of which this token is one; its tokens share the carried secret, the updater and the pause: the token's name. */
int32_t tkm_options_grant(tkm_options *options, const char *value);
int32_t tkm_options_egress(tkm_options *options, const char *value);    /* default */
int32_t tkm_options_budget(tkm_options *options, uint32_t per_minute, uint32_t burst); /* 60, 10 */
int32_t tkm_options_fetch_limit_ms(tkm_options *options, uint64_t ms);  /* 10000 */
int32_t tkm_options_lease_ms(tkm_options *options, uint64_t ms);        /* 3000; on the caller's thread fetch limit + 2000 */
int32_t tkm_options_deadline_ms(tkm_options *options, uint64_t ms);     /* 15000 */
/* A folder in which what the fetch callback brought survives kill -9 and a power cut until the store has it: none. Made, for this
 * user alone, if it is not there. For refresh tokens that are replaced each time; secrets lie there in clear meanwhile. */
int32_t tkm_options_journal(tkm_options *options, const char *folder);
/* Where the processes of this host meet while the store cannot be reached, a tkm_store_file as a rule: each host then fetches by
 * itself, within this budget of its own, and the issuer sees up to as many times the budget as there are hosts: none. Not for
 * fetch callbacks that carry a secret. */
int32_t tkm_options_when_away(tkm_options *options, const tkm_store *store, uint32_t per_minute, uint32_t burst);
/* How long past its end the last token is given, marked (tkm_token_is_stale), where tkm_manager_get would have to fail because store
 * or issuer are out of reach or take too long: none. Never one that was invalidated. */
int32_t tkm_options_serve_stale_ms(tkm_options *options, uint64_t ms);
int32_t tkm_options_execution(tkm_options *options, int32_t execution); /* TKM_EXECUTION_BACKGROUND */
/* How long before the end of a token's life it is refreshed at the latest; each process does it at a point of its own between
 * 1.5 times that and that before the end. As a share of the life, 0.0001 to 0.25, or a span, 1 ms to 10 years, which is cut to a
 * quarter of the life; the last call counts. Should be longer than the issuer takes, and the same in every process. */
int32_t tkm_options_refresh_before_share(tkm_options *options, double share); /* 0.2 */
int32_t tkm_options_refresh_before_ms(tkm_options *options, uint64_t ms);
/* The part at the end of a token's life in which it is not used any more: a share, 0.0001 to 0.125, or a span. Half of
 * refresh_before at most: more is refused where both are shares or both are spans, else cut. */
int32_t tkm_options_margin_share(tkm_options *options, double share);         /* 0.05, but 5000 ms at most */
int32_t tkm_options_margin_ms(tkm_options *options, uint64_t ms);

/* For the tokens of many keys (tkm_managers_new, which checks them); tkm_manager_new takes no notice. At most so many keys are kept in
 * this process: for one more, idle ones are forgotten that nobody has asked for the longest. */
int32_t tkm_options_max_keys(tkm_options *options, size_t count);         /* 100000 */
/* How long a key is kept that nobody asks for; the store keeps its token all the same. */
int32_t tkm_options_forget_after_ms(tkm_options *options, uint64_t ms);   /* 3600000 */
/* How many threads fetch for all keys together, and how many of them for one group; each fetch takes two. Without a group each key
 * is a group by itself, with a budget of its own. */
int32_t tkm_options_workers(tkm_options *options, uint32_t threads);           /* 64 */
int32_t tkm_options_workers_per_group(tkm_options *options, uint32_t threads); /* 16 */
/* Changes the settings of some keys: called with each key that is asked for first, on the thread that asks, for several keys at a time,
 * with options of its own, which have the settings of all; it may set any of them, a source too, except the name, and must neither
 * free nor keep them. `user_data` and `destroy` as for tkm_options_source. Defaults to the same settings for all keys. */
typedef void (*tkm_each_fn)(void *user_data, const char *key, tkm_options *options);
int32_t tkm_options_each(tkm_options *options, tkm_each_fn each, void *user_data, tkm_destroy_fn destroy);

/* ---- Tokens ------------------------------------------------------------------------------------------------------------
 * You own every token you are given; free it with tkm_token_free, from any thread. It stays readable after it has expired and
 * after its manager was freed. Reading never blocks. */
typedef struct tkm_token tkm_token;

/* The secret, without a NUL at its end; lives as long as the token. `length` (may be NULL) gets its length. */
const char *tkm_token_secret(const tkm_token *token, size_t *length);
/* Copies the secret and a NUL if `size` has room for both, else an empty text; returns the length without the NUL. */
size_t tkm_token_copy_secret(const tkm_token *token, char *buffer, size_t size);
uint64_t tkm_token_generation(const tkm_token *token);
/* 0 when it has expired. */
uint64_t tkm_token_expires_in_ms(const tkm_token *token);
/* 1 if it is past its end and served for want of a newer one (tkm_options_serve_stale_ms), 0 if not, -1 for NULL. */
int32_t tkm_token_is_stale(const tkm_token *token);
void tkm_token_free(tkm_token *token);

/* ---- Managers ----------------------------------------------------------------------------------------------------------
 * Free with tkm_manager_free when no thread uses it any more. All threads may share one. */
typedef struct tkm_manager tkm_manager;

/* Makes a manager and frees the options in any case. Never talks to the store or the issuer.
 * Codes: TKM_CONFIG, with a message that names the settings and the rule. */
int32_t tkm_manager_new(tkm_options *options, tkm_manager **manager, tkm_error **error);
/* Frees the manager, then waits, so long at most, until no thread can call the fetch callback and its `destroy` has returned.
 * TKM_BUSY: that took longer, so do not unload what they use; `destroy` is called when the last callback has returned. Free
 * guards first: their threads end within 100 ms and are waited for. Not to be called by the fetch callback. */
int32_t tkm_manager_free(tkm_manager *manager, uint64_t wait_ms);

/* Gives a token that is valid now. Blocks no longer than the deadline of the options, and not at all while a token is fresh, nor
 * while it is due; but with TKM_EXECUTION_INLINE the caller that finds it due or gone fetches itself, and returns in
 * time only if the callback and the store do.
 * Codes: TKM_TIMEOUT, TKM_STORE, TKM_LIMITED, TKM_REENTRANT and those of the fetch callback (10 to 13). */
int32_t tkm_manager_get(const tkm_manager *manager, tkm_token **token, tkm_error **error);
/* The same with a deadline of its own; 0 never blocks. */
int32_t tkm_manager_get_within(const tkm_manager *manager, uint64_t ms, tkm_token **token, tkm_error **error);
/* Tells the fleet that the API refused this token (HTTP 401); a newer one stays. Blocks for one exchange with the store at
 * most: with the default limits about 1.8 seconds. You still own the token. TKM_OK also if the store could not be told, which is
 * logged: then the invalidation counts in this process alone. */
int32_t tkm_manager_invalidate(const tkm_manager *manager, const tkm_token *token);

/* Has the issuer, a wechat_ticket, buy with this manager's tokens, which it goes on using after tkm_manager_free. */
int32_t tkm_issuer_parent(tkm_issuer *issuer, const tkm_manager *manager);

/* Keeps the process's token fresh with one thread until the guard is freed. tkm_fresh_free waits for nothing; the thread ends
 * within 100 ms, or with the store call it is in. Neither blocks. Codes: TKM_CONFIG when the system has no thread left. */
typedef struct tkm_fresh tkm_fresh;
int32_t tkm_manager_keep_fresh(const tkm_manager *manager, tkm_fresh **fresh, tkm_error **error);
void tkm_fresh_free(tkm_fresh *fresh);

/* For operators: ends the pauses after failures, of the fleet, of this process's egress and of this process. Blocks for one
 * exchange with the store. Codes: TKM_STORE if the store could not be told; this process's own pause has ended all the same. */
int32_t tkm_manager_lift_pause(const tkm_manager *manager, tkm_error **error);
/* Writes this process's UUID in the store and a NUL, 37 bytes in all. Never blocks. */
int32_t tkm_manager_owner(const tkm_manager *manager, char *owner);

/* ---- Many tokens -------------------------------------------------------------------------------------------------------
 * The tokens of many keys, such as tenants or users, of one store and one source; all have the settings of the options, but for what tkm_options_each changes. Each key has a
 * token, a flight and failures of its own: what fails for one hurts no other. The fleet meets under "<name of the options>:<key>".
 * The callback, which tkm_attempt_key tells the key, runs for several keys at a time; an issuer asks the same for each key. All
 * threads may share one. After a fork the child goes on with the keys that its parent had. */
typedef struct tkm_managers tkm_managers;

/* Makes them and frees the options in any case. Never talks to the store or the issuer. Codes: as tkm_manager_new. */
int32_t tkm_managers_new(tkm_options *options, tkm_managers **managers, tkm_error **error);
/* Frees them, then waits as tkm_manager_free. While managers of keys live, `destroy` waits for the last of them, whose
 * tkm_manager_free then waits for it in place of this. */
int32_t tkm_managers_free(tkm_managers *managers, uint64_t wait_ms);

/* As tkm_manager_get and tkm_manager_get_within, for this key. Codes: also TKM_CONFIG if the key cannot be part of a name: 1 to 200
 * bytes with the name of the options, without braces, spaces and control characters. */
int32_t tkm_managers_get(const tkm_managers *managers, const char *key, tkm_token **token, tkm_error **error);
int32_t tkm_managers_get_within(const tkm_managers *managers, const char *key, uint64_t ms, tkm_token **token,
                                tkm_error **error);
/* As tkm_manager_invalidate, for a token of this key. Codes: TKM_CONFIG, as tkm_managers_get. */
int32_t tkm_managers_invalidate(const tkm_managers *managers, const char *key, const tkm_token *token, tkm_error **error);
/* Takes over, in few exchanges, the tokens of these `count` keys that the store has, so that many need not be asked for one by one;
 * fetches nothing. `valid` (may be NULL) gets the number of keys that have a valid token then. Codes: TKM_NULL, TKM_CONFIG for a key,
 * TKM_STORE, after which what was taken over stays. */
int32_t tkm_managers_load(const tkm_managers *managers, const char *const *keys, size_t count, size_t *valid, tkm_error **error);
/* Gives the manager of this key: the fastest way to a token that is asked for often, and to all else that a manager can do. It is yours;
 * free it with tkm_manager_free, also after tkm_managers_free. Until then its key is not forgotten for want of place or use. What it
 * counts it counts for all keys together. Codes: TKM_CONFIG, as tkm_managers_get. */
int32_t tkm_managers_manager(const tkm_managers *managers, const char *key, tkm_manager **manager, tkm_error **error);
/* Forgets a key in this process, at once and whoever uses it; the store keeps its token. 1 if it was there, 0 if not, -1 if an argument
 * is NULL or the key is not UTF-8. */
int32_t tkm_managers_forget(const tkm_managers *managers, const char *key);
/* How many keys this process keeps. */
size_t tkm_managers_len(const tkm_managers *managers);
/* As tkm_manager_keep_fresh, for all keys that are kept and those to come, with one thread; each until it is forgotten. */
int32_t tkm_managers_keep_fresh(const tkm_managers *managers, tkm_fresh **fresh, tkm_error **error);

/* ---- Managers from a file --------------------------------------------------------------------------------------------
 * Makes the manager of a token of a file of settings (TOML; doc/tkm.md of the project has them all): store, source, budget and all. A
 * program then needs no source of its own. Never talks to the store or the issuer. Libraries built without the feature `config` lack it.
 * Codes: TKM_CONFIG; the message names the file, the line, the setting, and what to do. */
int32_t tkm_manager_from_config(const char *path, const char *name, tkm_manager **manager, tkm_error **error);

/* ---- What is seen ------------------------------------------------------------------------------------------------------
 * Figures for operators. They hold no secret. */
/* What this process has done so far; hits are not counted. */
typedef struct tkm_stats {
  uint64_t flights;   /* attempts to get a newer token */
  uint64_t fetches;   /* calls of the fetch callback */
  uint64_t failures;  /* of those, failed */
  uint64_t adopted;   /* tokens taken into use */
  uint64_t waits;     /* callers that had to wait */
  uint64_t timeouts;  /* callers whose deadline passed */
  uint64_t abandoned; /* callbacks that overran their limit and still run */
  uint64_t takeovers; /* fetches begun after the updater had fallen silent */
  uint64_t doubts;    /* tokens that were doubted */
  uint64_t limited;   /* attempts that the budget allowed no fetch */
  uint64_t invalidated;  /* generations invalidated here */
  uint64_t store_errors; /* what the store could not do */
  int64_t expires_in_ms; /* how long the token at hand may still be used; -1 if there is none */
} tkm_stats;
/* `size` is sizeof(tkm_stats) as your program was compiled: later versions add fields at the end, and what the library that
 * runs does not know is 0. Never blocks. */
int32_t tkm_manager_stats(const tkm_manager *manager, tkm_stats *stats, size_t size);
/* Writes the same, with times of waits and fetches and the errors by kind, as OpenMetrics text that ends with a NUL if `size` has room
 * for all of it, else an empty text; `needed` (may be NULL) gets the room that it takes. `text` may be NULL. Never blocks. */
int32_t tkm_manager_openmetrics(const tkm_manager *manager, char *text, size_t size, size_t *needed);

/* The same for all keys together; expires_in_ms is -1. */
int32_t tkm_managers_stats(const tkm_managers *managers, tkm_stats *stats, size_t size);
int32_t tkm_managers_openmetrics(const tkm_managers *managers, char *text, size_t size, size_t *needed);

/* What the store knows of the token; no secret. 0 stands for "none". */
typedef struct tkm_inspection {
  uint64_t generation; /* of the stored token */
  uint64_t left_ms;    /* how long it may still be used */
  uint64_t granted;    /* the last generation granted */
  uint64_t invalidated_generation;
  uint64_t doubted_generation;
  uint64_t fails;      /* fetches failed in a row */
  uint64_t pause_ms; /* what is left of the pause after a failure */
  uint64_t lease_left_ms;
  uint64_t budget_spent_ms; /* how far ahead of time the budget is spent */
  uint32_t carries;         /* 1 if a secret waits for the next fetch */
  char updater[84];         /* <generation>:<owner>:<attempt>, empty if nobody fetches */
} tkm_inspection;
/* `size` is sizeof(tkm_inspection), as for tkm_manager_stats. Blocks for one exchange with the store. Codes: TKM_STORE. */
int32_t tkm_manager_inspect(const tkm_manager *manager, tkm_inspection *inspection, size_t size, tkm_error **error);
/* ---- Log and version ---------------------------------------------------------------------------------------------------
 * The callback is called by any thread, several at a time; `level` is 1 (error) to 5 (trace), `most` the highest wanted, 0
 * none. It must call neither tkm_set_log nor a function that takes a manager; `message` lives during the call. NULL ends it: when
 * tkm_set_log has returned, the old callback is not running any more. */
typedef void (*tkm_log_fn)(void *user_data, int32_t level, const char *message);
int32_t tkm_set_log(tkm_log_fn log, void *user_data, int32_t most);
/* The version of the library that runs, TKM_VERSION that of this header. */
const char *tkm_version(void);

#ifdef __cplusplus
}
#endif

#endif
