// The C++ wrapper: what a fetch function throws becomes an outcome, and errors arrive as exceptions. Usage: demo REDIS ISSUER
#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "token_manager.hpp"

extern "C" {
#include "host.h"
}

namespace tkm = token_manager;
using tkm::milliseconds;

namespace {

tkm_options *options(const char *name, const char *redis) {
  tkm_store *store = nullptr;
  tkm_options *made = tkm_options_new(name);
  CHECK(tkm_store_redis(redis, nullptr, &store, nullptr) == TKM_OK);
  CHECK(tkm_options_store(made, store) == TKM_OK);
  tkm_store_free(store);
  return made;
}

tkm::fetched ask(uint16_t port, const tkm_attempt *attempt) {
  char answer[4096];
  const int status = http(port, "POST", "/token", tkm_attempt_remaining_ms(attempt), answer, sizeof answer);
  if (status == HTTP_REFUSED) throw tkm::unavailable("connection refused");
  const std::string text(answer);
  const auto at = text.find("\"access_token\":\"");
  if (status != 200 || at == std::string::npos) throw std::runtime_error("no usable answer");
  return {text.substr(at + 16, text.find('"', at + 16) - at - 16), milliseconds(number_of(answer, "expires_in_ms"))};
}

// Has a manager of its own meet this outcome, and checks what its caller is told.
void meets(const char *redis, const char *name, tkm::fetch source, int32_t code, const char *because,
           milliseconds pause = milliseconds(0)) {
  const tkm::manager manager(options(name, redis), std::move(source));
  try {
    manager.get_within(milliseconds(700));
    CHECK(!"an error");
  } catch (const tkm::error &told) {
    if (told.code() != code || std::string(told.what()).find(because) == std::string::npos) {
      std::fprintf(stderr, "%s: code %d: %s\n", name, told.code(), told.what());
      std::exit(1);
    }
    CHECK(told.retry_after() > pause - milliseconds(10000) && told.retry_after().count() > 0);
  }
  std::printf("ok %s\n", name);
}

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc == 3);
  const char *redis = argv[1];
  static issuer server;
  issuer_init(&server, argv[2]);

  using A = const tkm_attempt *;
  meets(redis, "throttled", [](A) -> tkm::fetched { throw tkm::throttled(milliseconds(30000)); }, TKM_THROTTLED, "");
  meets(redis, "unavailable", [](A) -> tkm::fetched { throw tkm::unavailable("no line"); }, TKM_UNAVAILABLE, "no line");
  meets(redis, "busy", [](A) -> tkm::fetched { throw tkm::unavailable("503", milliseconds(900000)); }, TKM_UNAVAILABLE, "503",
        milliseconds(900000));
  meets(redis, "rejected", [](A) -> tkm::fetched { throw tkm::credentials_rejected("no entry", milliseconds(800000)); },
        TKM_CREDENTIALS_REJECTED, "no entry", milliseconds(800000));
  meets(redis, "exception", [](A) -> tkm::fetched { throw std::logic_error("no sense"); }, TKM_UNKNOWN_OUTCOME, "no sense");
  meets(redis, "number", [](A) -> tkm::fetched { throw 7; }, TKM_UNKNOWN_OUTCOME, "no exception");
  meets(redis, "negative-life", [](A) -> tkm::fetched { return {"secret", milliseconds(-1)}; }, TKM_UNKNOWN_OUTCOME, "life");
  meets(redis, "no-text", [](A) -> tkm::fetched { return {"\xff", milliseconds(1000)}; }, TKM_UNKNOWN_OUTCOME, "UTF-8");

  try {
    tkm_options *wrong = options("", redis);
    const tkm::manager manager(wrong, [](A) -> tkm::fetched { throw 7; });
    CHECK(!"an error");
  } catch (const tkm::error &told) {
    CHECK(told.code() == TKM_CONFIG && std::string(told.what()).find("name") != std::string::npos);
  }
  std::printf("ok settings\n");

  // The first fetch fails and leaves a pause; the next one works.
  std::atomic<int> asked{0};
  tkm::manager manager(options("works", redis), [&asked](A attempt) {
    if (asked++ == 0) throw tkm::throttled(milliseconds(200));
    return ask(server.port, attempt);
  });
  try {
    manager.get();
    CHECK(!"an error");
  } catch (const tkm::error &told) {
    CHECK(told.code() == TKM_THROTTLED && told.retry_after().count() > 0);
    std::this_thread::sleep_for(told.retry_after() + milliseconds(50));
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < 20; i++) {
    threads.emplace_back([&manager] { CHECK(!manager.get().secret().empty()); });
  }
  for (auto &thread : threads) thread.join();
  CHECK(asked == 2);
  const tkm::token first = manager.get();
  manager.invalidate(first);
  const tkm::manager moved(std::move(manager));
  const tkm::fresh guard = moved.keep_fresh();
  moved.lift_pause();
  CHECK(moved.stats().failures == 1);
  const tkm::token second = moved.get();
  CHECK(second.generation() > first.generation() && second.secret() != first.secret());
  CHECK(second.expires_in().count() > 0 && asked == 3);
  std::printf("ok works\n");

  // A source of the library's own, in place of a function.
  tkm_issuer *source = nullptr;
  tkm_options *own = options("issuer", redis);
  CHECK(tkm_issuer_new("client_credentials", &source, nullptr) == TKM_OK);
  CHECK(tkm_issuer_set(source, "url", (std::string(argv[2]) + "/token").c_str(), nullptr) == TKM_OK);
  CHECK(tkm_issuer_set(source, "client_id", "billing", nullptr) == TKM_OK);
  CHECK(tkm_options_issuer(own, source, nullptr) == TKM_OK);
  CHECK(!tkm::manager(own).get().secret().empty());
  std::printf("ok issuer\n");
}
