/* A prefork server: children of a busy parent work on connections and state of their own, and leave the parent's alone.
 * Usage: prefork REDIS ISSUER */
#define _POSIX_C_SOURCE 200809L
#include <sys/wait.h>

#include "host.h"

enum { CHILDREN = 4, WAITING = 20, BUSY = 4, STRESS = 50 };

struct guest {
  const tkm_manager *manager;
  uint64_t generation;
};

static pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;

static uint64_t generation_from(const tkm_manager *manager) {
  tkm_token *token = NULL;
  tkm_error *error = NULL;
  uint64_t generation;
  CHECK_OK(tkm_manager_get(manager, &token, &error), error);
  CHECK(tkm_token_expires_in_ms(token) > 0);
  generation = tkm_token_generation(token);
  tkm_token_free(token);
  return generation;
}

static void *wait_for_token(void *data) {
  struct guest *guest = data;
  guest->generation = generation_from(guest->manager);
  return NULL;
}

/* Asks and frees without a pause for as long as the main thread holds `busy`, so that a fork finds a thread anywhere in the
 * library. */
static void *ask_without_a_pause(void *data) {
  struct guest *guest = data;
  while (pthread_mutex_trylock(&busy) != 0) CHECK(generation_from(guest->manager) == guest->generation);
  pthread_mutex_unlock(&busy);
  return NULL;
}

/* Has many threads ask; all must get this generation, and with 0 they must get the same. */
static uint64_t many_get(const tkm_manager *manager, uint64_t generation) {
  pthread_t threads[WAITING];
  struct guest guests[WAITING];
  int i;
  for (i = 0; i < WAITING; i++) {
    guests[i].manager = manager;
    CHECK(pthread_create(&threads[i], NULL, wait_for_token, &guests[i]) == 0);
  }
  for (i = 0; i < WAITING; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
    if (generation == 0) generation = guests[i].generation;
    CHECK(guests[i].generation == generation);
  }
  return generation;
}

/* A reply that another process read away, or a foreign one, would show here. */
static void stress(const tkm_manager *manager, uint64_t generation) {
  tkm_inspection seen;
  tkm_error *error = NULL;
  int i;
  for (i = 0; i < STRESS; i++) {
    CHECK_OK(tkm_manager_inspect(manager, &seen, sizeof seen, &error), error);
    CHECK(seen.generation == generation);
  }
}

struct child {
  pid_t pid;
  int ready;
};

/* Forks a child that says when it is there, and then asks for the token. */
static struct child spawn(tkm_manager *manager, tkm_fresh *fresh, uint64_t generation) {
  struct child child;
  char parents[37], own[37];
  int ends[2];
  CHECK(tkm_manager_owner(manager, parents) == TKM_OK);
  CHECK(pipe(ends) == 0);
  fflush(NULL);
  child.pid = fork();
  CHECK(child.pid >= 0);
  child.ready = ends[0];
  if (child.pid > 0) {
    close(ends[1]);
    return child;
  }
  alarm(60);
  tkm_fresh_free(fresh);
  CHECK(tkm_set_log(NULL, NULL, 0) == TKM_OK);
  CHECK(tkm_manager_owner(manager, own) == TKM_OK && strcmp(own, parents) != 0);
  CHECK(write(ends[1], "!", 1) == 1);
  generation = many_get(manager, generation);
  CHECK_OK(tkm_manager_keep_fresh(manager, &fresh, NULL), NULL);
  stress(manager, generation);
  many_get(manager, generation);
  tkm_fresh_free(fresh);
  CHECK(tkm_manager_free(manager, 10000) == TKM_OK);
  exit(0);
}

static void await_ready(struct child *children) {
  char mark;
  int i;
  for (i = 0; i < CHILDREN; i++) {
    CHECK(read(children[i].ready, &mark, 1) == 1);
    close(children[i].ready);
  }
}

static void await_ends(struct child *children) {
  int i, status;
  for (i = 0; i < CHILDREN; i++) {
    CHECK(waitpid(children[i].pid, &status, 0) == children[i].pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
}

/* Holds the first message until `held` is closed, so that a fork finds a thread inside the log callback. */
static struct {
  int entered[2], held[2];
  pthread_mutex_t once;
} log_gate;

static void slow_log(void *user_data, int32_t level, const char *message) {
  char mark;
  (void)user_data, (void)level, (void)message;
  if (pthread_mutex_trylock(&log_gate.once) != 0) return;
  CHECK(write(log_gate.entered[1], "!", 1) == 1);
  CHECK(read(log_gate.held[0], &mark, 1) == 1);
}

int main(int argc, char **argv) {
  static struct issuer issuer;
  static struct guest guests[WAITING];
  pthread_t threads[WAITING];
  struct child children[CHILDREN];
  tkm_manager *manager, *logged;
  tkm_fresh *fresh = NULL;
  tkm_token *token = NULL;
  tkm_stats stats;
  tkm_error *error = NULL;
  struct guest logging, asking;
  pthread_t logger, busy_threads[BUSY];
  uint64_t second;
  char mark;
  int i;
  CHECK(argc == 3);
  issuer_init(&issuer, argv[2]);
  manager = manager_for("prefork", argv[1], &issuer);

  /* Children of a parent whose callback runs and whose threads wait. */
  issuer_control(&issuer, "hold=1");
  CHECK_OK(tkm_manager_keep_fresh(manager, &fresh, &error), error);
  issuer_await(&issuer, &issuer.asked, 1);
  for (i = 0; i < WAITING; i++) {
    guests[i].manager = manager;
    CHECK(pthread_create(&threads[i], NULL, wait_for_token, &guests[i]) == 0);
  }
  do CHECK(tkm_manager_stats(manager, &stats, sizeof stats) == TKM_OK);
  while (stats.waits < WAITING);
  for (i = 0; i < CHILDREN; i++) children[i] = spawn(manager, fresh, 0);
  await_ready(children);
  issuer_control(&issuer, "hold=0");
  for (i = 0; i < WAITING; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(guests[i].generation == guests[0].generation);
  }
  stress(manager, guests[0].generation);
  await_ends(children);
  CHECK(issuer_stat(&issuer, "asked") == 1);
  printf("ok forked while the callback ran and %d threads waited\n", WAITING);

  /* The parent is unharmed: it gets the next token with one fetch. */
  CHECK_OK(tkm_manager_get(manager, &token, &error), error);
  CHECK(tkm_manager_invalidate(manager, token) == TKM_OK);
  tkm_token_free(token);
  second = generation_from(manager);
  CHECK(second > guests[0].generation);
  CHECK(issuer_stat(&issuer, "asked") == 2);
  printf("ok the parent is unharmed\n");

  /* Children of a parent whose threads are busy with a valid token, and with the log callback. */
  CHECK(pipe(log_gate.entered) == 0 && pipe(log_gate.held) == 0);
  pthread_mutex_init(&log_gate.once, NULL);
  CHECK(tkm_set_log(slow_log, NULL, 5) == TKM_OK);
  logged = manager_for("prefork-logged", argv[1], &issuer);
  logging.manager = logged;
  CHECK(pthread_create(&logger, NULL, wait_for_token, &logging) == 0);
  CHECK(read(log_gate.entered[0], &mark, 1) == 1);
  asking.manager = manager, asking.generation = second;
  CHECK(pthread_mutex_lock(&busy) == 0);
  for (i = 0; i < BUSY; i++) CHECK(pthread_create(&busy_threads[i], NULL, ask_without_a_pause, &asking) == 0);
  for (i = 0; i < CHILDREN; i++) children[i] = spawn(manager, fresh, second);
  await_ready(children);
  await_ends(children);
  CHECK(pthread_mutex_unlock(&busy) == 0);
  for (i = 0; i < BUSY; i++) CHECK(pthread_join(busy_threads[i], NULL) == 0);
  CHECK(write(log_gate.held[1], "!", 1) == 1);
  CHECK(pthread_join(logger, NULL) == 0);
  CHECK(tkm_set_log(NULL, NULL, 0) == TKM_OK);
  CHECK(tkm_manager_free(logged, 10000) == TKM_OK);
  CHECK(generation_from(manager) == second);
  CHECK(issuer_stat(&issuer, "asked") == 3);
  printf("ok forked while %d threads had a valid token and one was in the log callback\n", BUSY);

  tkm_fresh_free(fresh);
  CHECK(tkm_manager_free(manager, 10000) == TKM_OK);
  CHECK(issuer.destroyed == 2);
  printf("ok freed\n");
  return 0;
}
