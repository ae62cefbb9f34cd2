-- KEYS: token updater meta carry budget; ARGV: none; replies: gen left_ms updater lease_left_ms granted void doubt cool_left_ms cool_class fails carries spent_us, each a string, empty if absent
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local int = function(n) return string.format('%.0f', math.max(n, 0)) end
local meta = redis.call('HMGET', KEYS[3], 'gen', 'void', 'doubt', 'cool_until', 'cool_class', 'fails')
return {
  redis.call('HGET', KEYS[1], 'gen') or '', int(redis.call('PTTL', KEYS[1])),
  redis.call('GET', KEYS[2]) or '', int(redis.call('PTTL', KEYS[2])),
  meta[1] or '', meta[2] or '', meta[3] or '',
  int(math.ceil((tonumber(meta[4] or 0) - now) / 1000)), meta[5] or '', meta[6] or '',
  int(redis.call('EXISTS', KEYS[4])), int(tonumber(redis.call('GET', KEYS[5]) or 0) - now),
}
