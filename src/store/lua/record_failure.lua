-- Records a failed fetch and gives the lease back. The reply is the pause that the reporter has to keep.
--
-- KEYS  token meta pause, and of the grant: updater carry meta
-- ARGV  channel
--       owner, attempt, gen   the lease
--       class                 throttled | unavailable | credentials_rejected | unknown_outcome
--       retry_after_ms        -1: the issuer named none
-- Replies
--       paused left_ms class
--       none
local class = ARGV[5]
local meta = redis.call('HMGET', KEYS[2], 'gen', 'invalidated', 'doubted')
local shared = redis.call('HMGET', KEYS[6], 'pause_until', 'pause_us', 'pause_class', 'fails')

if class == 'unknown_outcome' then
  local granted = math.max(tonumber(meta[1] or 0), tonumber(ARGV[4]))
  local doubt = math.max(tonumber(meta[3] or 0), granted, now)
  redis.call('HSET', KEYS[2], 'gen', int(granted), 'doubted', int(doubt))
  redis.call('PEXPIRE', KEYS[2], 2592000000)
  redis.pcall('PUBLISH', ARGV[1], 'doubted ' .. int(doubt))
end

-- Only where nobody knows what the issuer did may the carried secret have been consumed.
if class ~= 'unknown_outcome' and redis.call('HGET', KEYS[5], 'presented_by') == lease_of(ARGV[4], ARGV[2], ARGV[3]) then
  redis.call('HDEL', KEYS[5], 'presented_by', 'presented_at')
end

local leads = is_of(redis.call('GET', KEYS[4]), ARGV[4], ARGV[2], ARGV[3])
if leads then
  redis.call('DEL', KEYS[4])
  redis.pcall('PUBLISH', ARGV[1], 'failed ' .. class)
end

local fails = tonumber(shared[4] or 0) + 1
local length = tonumber(ARGV[6]) -- of the pause, in milliseconds
if length < 0 then
  local first = class == 'credentials_rejected' and 60000 or 1000
  length = math.min(first * 2 ^ math.min(fails - 1, 6), 60000)
  length = length + math.floor(length * (now % 1000) / 4000)
end

local throttled = redis.call('GET', KEYS[3])
throttled = throttled and left(KEYS[3], tonumber(throttled)) or 0
local pause = cut(shared[1], shared[2])
local pause_class = shared[3]
if class == 'throttled' then -- whoever reports it, and however late: the issuer said so
  if length > throttled then
    redis.call('SET', KEYS[3], int(length), 'PX', int(length))
    throttled = length
  end
elseif leads and class == 'credentials_rejected' and tonumber(redis.call('HGET', KEYS[1], 'gen') or 0) > tonumber(meta[2] or 0) then
  return {'paused', length, class} -- the others may have better credentials, and they have a token to go on with
elseif leads then
  pause, pause_class = length * 1000, class
  redis.call('HSET', KEYS[6], 'pause_until', int(now + pause), 'pause_us', int(pause), 'pause_class', class, 'pause_gen', ARGV[4])
end
if leads then
  redis.call('HSET', KEYS[6], 'fails', fails)
  redis.call('PEXPIRE', KEYS[6], 2592000000)
end

if throttled * 1000 > pause then
  return {'paused', throttled, 'throttled'}
elseif pause > 0 then
  return {'paused', math.ceil(pause / 1000), pause_class}
end
return {'none'}
