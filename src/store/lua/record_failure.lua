-- Records a failed fetch and gives the lease back. The reply is the pause that the reporter has to keep.
-- KEYS: token updater meta pause
-- ARGV: channel owner attempt gen class retry_after_ms, which is -1 where the issuer named none
-- Replies: paused left_ms class | none
local class = ARGV[5]
local meta = redis.call('HMGET', KEYS[3], 'gen', 'invalidated', 'doubted', 'pause_until', 'pause_us', 'pause_class', 'fails')

if class == 'unknown_outcome' then
  local granted = math.max(tonumber(meta[1] or 0), tonumber(ARGV[4]))
  local doubt = math.max(tonumber(meta[3] or 0), granted, now)
  redis.call('HSET', KEYS[3], 'gen', int(granted), 'doubted', int(doubt))
  redis.call('PEXPIRE', KEYS[3], 2592000000)
  redis.pcall('PUBLISH', ARGV[1], 'doubted ' .. int(doubt))
end

local leads = is_of(redis.call('GET', KEYS[2]), ARGV[4], ARGV[2], ARGV[3])
if leads then
  redis.call('DEL', KEYS[2])
  redis.pcall('PUBLISH', ARGV[1], 'failed ' .. class)
end

local fails = tonumber(meta[7] or 0) + 1
local pause = tonumber(ARGV[6]) -- in milliseconds
if pause < 0 then
  local first = class == 'credentials_rejected' and 60000 or 1000
  pause = math.min(first * 2 ^ math.min(fails - 1, 6), 60000)
  pause = pause + math.floor(pause * (now % 1000) / 4000)
end

local told = redis.call('GET', KEYS[4])
told = told and left(KEYS[4], tonumber(told)) or 0
local cooling = cut(meta[4], meta[5])
local pause_class = meta[6]
if class == 'throttled' then -- whoever reports it, and however late: the issuer said so
  if pause > told then
    redis.call('SET', KEYS[4], int(pause), 'PX', int(pause))
    told = pause
  end
elseif leads and class == 'credentials_rejected' and tonumber(redis.call('HGET', KEYS[1], 'gen') or 0) > tonumber(meta[2] or 0) then
  return {'paused', pause, class} -- the others may have better credentials, and they have a token to go on with
elseif leads then
  cooling, pause_class = pause * 1000, class
  redis.call('HSET', KEYS[3], 'pause_until', int(now + cooling), 'pause_us', int(cooling), 'pause_class', class, 'pause_gen', ARGV[4])
end
if leads then
  redis.call('HSET', KEYS[3], 'fails', fails)
  redis.call('PEXPIRE', KEYS[3], 2592000000)
end

if told * 1000 > cooling then
  return {'paused', told, 'throttled'}
elseif cooling > 0 then
  return {'paused', math.ceil(cooling / 1000), pause_class}
end
return {'none'}
