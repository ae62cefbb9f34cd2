// token_manager.hpp: the C++ face of token_manager.h. Header only; handles free themselves; errors are exceptions.
#ifndef TOKEN_MANAGER_HPP
#define TOKEN_MANAGER_HPP

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "token_manager.h"

namespace token_manager {

using std::chrono::milliseconds;

/// Why there is no token.
class error : public std::runtime_error {
 public:
  error(int32_t code, const std::string &message, int64_t retry_after_ms)
      : std::runtime_error(message), code_(code), retry_after_(retry_after_ms) {}
  /// One of the TKM_ codes.
  int32_t code() const noexcept { return code_; }
  /// How long to wait before asking again; negative if nothing tells.
  milliseconds retry_after() const noexcept { return milliseconds(retry_after_); }

 private:
  int32_t code_;
  int64_t retry_after_;
};

namespace detail {

inline void check(int32_t code, tkm_error *told) {
  if (code == TKM_OK) return;
  const std::unique_ptr<tkm_error, void (*)(tkm_error *)> owned(told, tkm_error_free);
  throw error(code, told ? tkm_error_message(told) : "token_manager: code " + std::to_string(code),
              tkm_error_retry_after_ms(told));
}

}  // namespace detail

/// A secret with its generation and its time.
class token {
 public:
  explicit token(tkm_token *handle) : handle_(handle, tkm_token_free) {}
  std::string secret() const {
    size_t length = 0;
    const char *text = tkm_token_secret(handle_.get(), &length);
    return std::string(text, length);
  }
  uint64_t generation() const noexcept { return tkm_token_generation(handle_.get()); }
  milliseconds expires_in() const noexcept { return milliseconds(tkm_token_expires_in_ms(handle_.get())); }
  const tkm_token *get() const noexcept { return handle_.get(); }

 private:
  std::unique_ptr<tkm_token, void (*)(tkm_token *)> handle_;
};

/// What a fetch function got from the issuer.
struct fetched {
  std::string secret;
  milliseconds life;
};

/// To be thrown by a fetch function that was asked to slow down (HTTP 429).
struct throttled : std::runtime_error {
  explicit throttled(milliseconds pause = milliseconds(-1)) : std::runtime_error("throttled"), retry_after(pause) {}
  milliseconds retry_after;
};
/// To be thrown by a fetch function when the issuer granted nothing, with its Retry-After if it sent one.
struct unavailable : std::runtime_error {
  explicit unavailable(const std::string &cause, milliseconds pause = milliseconds(-1))
      : std::runtime_error(cause), retry_after(pause) {}
  milliseconds retry_after;
};
/// To be thrown by a fetch function when the issuer refused the credentials, with its Retry-After if it sent one.
struct credentials_rejected : std::runtime_error {
  explicit credentials_rejected(const std::string &cause, milliseconds pause = milliseconds(-1))
      : std::runtime_error(cause), retry_after(pause) {}
  milliseconds retry_after;
};

/// Asks the issuer. Any other exception that it throws counts as an unknown outcome.
using fetch = std::function<fetched(const tkm_attempt *)>;

/// Keeps the token of a process fresh until it is destroyed.
class fresh {
 public:
  explicit fresh(tkm_fresh *handle) : handle_(handle, tkm_fresh_free) {}

 private:
  std::unique_ptr<tkm_fresh, void (*)(tkm_fresh *)> handle_;
};

class manager {
 public:
  /// Makes a manager of options that have a store, with `source` as their source; takes the options.
  manager(tkm_options *options, fetch source) : handle_(nullptr, free) {
    auto *function = new fetch(std::move(source));
    const int32_t code = tkm_options_source(options, ask, function, [](void *data) { delete static_cast<fetch *>(data); });
    if (code != TKM_OK) {
      tkm_options_free(options);
      detail::check(code, nullptr);
    }
    take(options);
  }

  /// Makes a manager of options that have a store and a source, such as an issuer; takes the options.
  explicit manager(tkm_options *options) : handle_(nullptr, free) { take(options); }

  token get() const {
    tkm_token *got = nullptr;
    tkm_error *told = nullptr;
    const int32_t code = tkm_manager_get(handle_.get(), &got, &told);
    detail::check(code, told);
    return token(got);
  }

  token get_within(milliseconds deadline) const {
    tkm_token *got = nullptr;
    tkm_error *told = nullptr;
    const auto ms = static_cast<uint64_t>(deadline.count() > 0 ? deadline.count() : 0);
    const int32_t code = tkm_manager_get_within(handle_.get(), ms, &got, &told);
    detail::check(code, told);
    return token(got);
  }

  void invalidate(const token &refused) const {
    detail::check(tkm_manager_invalidate(handle_.get(), refused.get()), nullptr);
  }

  fresh keep_fresh() const {
    tkm_fresh *made = nullptr;
    tkm_error *told = nullptr;
    const int32_t code = tkm_manager_keep_fresh(handle_.get(), &made, &told);
    detail::check(code, told);
    return fresh(made);
  }

  /// Ends the pauses after failures.
  void lift_pause() const {
    tkm_error *told = nullptr;
    const int32_t code = tkm_manager_lift_pause(handle_.get(), &told);
    detail::check(code, told);
  }

  tkm_stats stats() const {
    tkm_stats counts;
    detail::check(tkm_manager_stats(handle_.get(), &counts, sizeof counts), nullptr);
    return counts;
  }

  tkm_manager *get_handle() const noexcept { return handle_.get(); }

 private:
  static void free(tkm_manager *handle) { tkm_manager_free(handle, 10000); }

  void take(tkm_options *options) {
    tkm_manager *made = nullptr;
    tkm_error *told = nullptr;
    const int32_t outcome = tkm_manager_new(options, &made, &told);
    detail::check(outcome, told);
    handle_.reset(made);
  }

  static void retry(tkm_reply *reply, milliseconds pause) {
    if (pause.count() >= 0) tkm_reply_retry_after(reply, static_cast<uint64_t>(pause.count()));
  }

  static void ask(void *data, const tkm_attempt *attempt, tkm_reply *reply) {
    try {
      const fetched got = (*static_cast<fetch *>(data))(attempt);
      const auto life = static_cast<uint64_t>(got.life.count() > 0 ? got.life.count() : 0);
      if (tkm_reply_token(reply, got.secret.data(), got.secret.size(), life) == TKM_NOT_UTF8) {
        tkm_reply_unknown_outcome(reply, "the fetch function returned a secret that is not UTF-8");
      }
    } catch (const throttled &pause) {
      tkm_reply_throttled(reply, pause.retry_after.count());
    } catch (const unavailable &cause) {
      tkm_reply_unavailable(reply, cause.what());
      retry(reply, cause.retry_after);
    } catch (const credentials_rejected &cause) {
      tkm_reply_credentials_rejected(reply, cause.what());
      retry(reply, cause.retry_after);
    } catch (const std::exception &cause) {
      tkm_reply_unknown_outcome(reply, cause.what());
    } catch (...) {
      tkm_reply_unknown_outcome(reply, "the fetch function threw something that is no exception");
    }
  }

  std::unique_ptr<tkm_manager, void (*)(tkm_manager *)> handle_;
};

}  // namespace token_manager

#endif
