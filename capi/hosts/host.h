/* What every C host needs: checks that end the program, and an issuer asked over plain sockets. */
#ifndef HOST_H
#define HOST_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <unistd.h>

#include "token_manager.h"

#define CHECK(condition)                                                                       \
  do {                                                                                         \
    if (!(condition)) {                                                                        \
      fprintf(stderr, "%s:%d: process %ld: not so: %s\n", __FILE__, __LINE__, (long)getpid(), #condition); \
      exit(1);                                                                                 \
    }                                                                                          \
  } while (0)

/* Checks a call that may fail with an error, and shows the error. */
#define CHECK_OK(call, error)                                                                             \
  do {                                                                                                    \
    int32_t code_ = (call);                                                                               \
    if (code_ != TKM_OK) {                                                                                \
      fprintf(stderr, "%s:%d: process %ld: %s: code %d: %s\n", __FILE__, __LINE__, (long)getpid(), #call, \
              (int)code_, tkm_error_message(error));                                                      \
      exit(1);                                                                                            \
    }                                                                                                     \
  } while (0)

/* An issuer, and what its callers did. */
struct issuer {
  uint16_t port;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int asked;
  int destroyed;
};

static inline void issuer_init(struct issuer *issuer, const char *url) {
  const char *colon = strrchr(url, ':');
  setvbuf(stdout, NULL, _IOLBF, 0);
  memset(issuer, 0, sizeof *issuer);
  CHECK(strncmp(url, "http://127.0.0.1:", 17) == 0 && colon != NULL);
  issuer->port = (uint16_t)atoi(colon + 1);
  pthread_mutex_init(&issuer->lock, NULL);
  pthread_cond_init(&issuer->changed, NULL);
}

static inline void issuer_count(struct issuer *issuer, int *counter) {
  pthread_mutex_lock(&issuer->lock);
  ++*counter;
  pthread_cond_broadcast(&issuer->changed);
  pthread_mutex_unlock(&issuer->lock);
}

static inline void issuer_await(struct issuer *issuer, const int *counter, int count) {
  pthread_mutex_lock(&issuer->lock);
  while (*counter < count) pthread_cond_wait(&issuer->changed, &issuer->lock);
  pthread_mutex_unlock(&issuer->lock);
}

enum http { HTTP_REFUSED = -1, HTTP_NO_ANSWER = -2 };

/* Asks the issuer; returns the status or why there is none. The answer ends with a NUL. */
static inline int http(uint16_t port, const char *method, const char *path, uint64_t within_ms, char *answer,
                       size_t size) {
  struct sockaddr_in address;
  struct timeval limit;
  char request[256];
  size_t length = 0;
  ssize_t got;
  int status = HTTP_NO_ANSWER;
  int connection = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connection >= 0);
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  limit.tv_sec = (time_t)(within_ms / 1000);
  limit.tv_usec = (suseconds_t)(within_ms % 1000 * 1000);
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(connection, (struct sockaddr *)&address, sizeof address) != 0) {
    close(connection);
    return HTTP_REFUSED;
  }
  snprintf(request, sizeof request,
           "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", method, path);
  if (send(connection, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request)) {
    while (length + 1 < size && (got = recv(connection, answer + length, size - 1 - length, 0)) > 0)
      length += (size_t)got;
  }
  close(connection);
  answer[length] = '\0';
  if (sscanf(answer, "HTTP/1.1 %d", &status) != 1) return HTTP_NO_ANSWER;
  return status;
}

/* Returns the number behind `"name":` in a JSON answer; -1 if there is none. */
static inline long long number_of(const char *answer, const char *name) {
  char quoted[64];
  const char *at;
  snprintf(quoted, sizeof quoted, "\"%s\":", name);
  at = strstr(answer, quoted);
  return at == NULL ? -1 : atoll(at + strlen(quoted));
}

/* The fetch callback; its user data is a struct issuer. */
static inline void issuer_fetch(void *user_data, const tkm_attempt *attempt, tkm_reply *reply) {
  struct issuer *issuer = (struct issuer *)user_data;
  char answer[4096];
  const char *secret, *end, *pause;
  long long life;
  int status;
  issuer_count(issuer, &issuer->asked);
  status = http(issuer->port, "POST", "/token", tkm_attempt_remaining_ms(attempt), answer, sizeof answer);
  if (status == HTTP_REFUSED) {
    tkm_reply_unavailable(reply, "connection refused");
  } else if (status == 429) {
    pause = strstr(answer, "Retry-After: ");
    tkm_reply_throttled(reply, pause == NULL ? -1 : atoll(pause + 13) * 1000);
  } else if (status == 400 || status == 401) {
    tkm_reply_credentials_rejected(reply, "the issuer refused the credentials");
  } else if (status >= 500) {
    tkm_reply_unavailable(reply, "the issuer is out of order");
    if ((pause = strstr(answer, "Retry-After: ")) != NULL) tkm_reply_retry_after(reply, (uint64_t)atoll(pause + 13) * 1000);
  } else if (status == 200 && (secret = strstr(answer, "\"access_token\":\"")) != NULL &&
             (end = strchr(secret + 16, '"')) != NULL && (life = number_of(answer, "expires_in_ms")) > 0) {
    tkm_reply_token(reply, secret + 16, (size_t)(end - secret - 16), (uint64_t)life);
  } else {
    tkm_reply_unknown_outcome(reply, "no usable answer came");
  }
}

static inline void issuer_destroy(void *user_data) {
  struct issuer *issuer = (struct issuer *)user_data;
  issuer_count(issuer, &issuer->destroyed);
}

/* Returns one of the issuer's own counts. */
static inline long long issuer_stat(struct issuer *issuer, const char *name) {
  char answer[4096];
  CHECK(http(issuer->port, "GET", "/stats", 5000, answer, sizeof answer) == 200);
  return number_of(answer, name);
}

/* Changes the issuer's behaviour, as in "hold=1". */
static inline void issuer_control(struct issuer *issuer, const char *setting) {
  char answer[4096], path[128];
  snprintf(path, sizeof path, "/control?%s", setting);
  CHECK(http(issuer->port, "GET", path, 5000, answer, sizeof answer) == 200);
}

/* Options with this Redis, or this folder, and this issuer. */
static inline tkm_options *options_for(const char *name, const char *redis, struct issuer *issuer) {
  tkm_store *store = NULL;
  tkm_error *error = NULL;
  tkm_options *options = tkm_options_new(name);
  CHECK(options != NULL);
  if (redis[0] == '/') {
    CHECK_OK(tkm_store_file(redis, &store, &error), error);
  } else {
    CHECK_OK(tkm_store_redis(redis, NULL, &store, &error), error);
  }
  CHECK(tkm_options_store(options, store) == TKM_OK);
  tkm_store_free(store);
  CHECK(tkm_options_source(options, issuer_fetch, issuer, issuer_destroy) == TKM_OK);
  return options;
}

static inline tkm_manager *manager_for(const char *name, const char *redis, struct issuer *issuer) {
  tkm_manager *manager = NULL;
  tkm_error *error = NULL;
  CHECK_OK(tkm_manager_new(options_for(name, redis, issuer), &manager, &error), error);
  CHECK(manager != NULL && error == NULL);
  return manager;
}

#endif
