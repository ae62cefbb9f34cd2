-- KEYS: updater meta; ARGV: channel owner attempt gen class retry_after_ms (-1: none); replies: cooling left_ms class | lost
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local int = function(n) return string.format('%.0f', n) end
local meta = redis.call('HMGET', KEYS[2], 'gen', 'doubt', 'cool_until', 'cool_class', 'fails')
local cool_until, class = tonumber(meta[3] or 0), meta[4]

if ARGV[5] == 'unknown_outcome' then
  local granted = math.max(tonumber(meta[1] or 0), tonumber(ARGV[4]))
  local doubt = math.max(tonumber(meta[2] or 0), granted)
  redis.call('HSET', KEYS[2], 'gen', int(granted), 'doubt', int(doubt))
  redis.call('PEXPIRE', KEYS[2], 2592000000)
  redis.pcall('PUBLISH', ARGV[1], 'doubted ' .. int(doubt))
end

if redis.call('GET', KEYS[1]) == ARGV[4] .. ':' .. ARGV[2] .. ':' .. ARGV[3] then
  redis.call('DEL', KEYS[1])
  local fails = tonumber(meta[5] or 0) + 1
  local pause = tonumber(ARGV[6])
  if pause < 0 then
    local first = ARGV[5] == 'rejected' and 60000 or 1000
    pause = math.min(first * 2 ^ math.min(fails - 1, 6), 60000)
    pause = pause + math.floor(pause * (now % 1000) / 4000)
  end
  cool_until, class = now + pause * 1000, ARGV[5]
  redis.call('HSET', KEYS[2], 'cool_until', int(cool_until), 'cool_class', class, 'fails', fails)
  redis.call('PEXPIRE', KEYS[2], 2592000000)
  redis.pcall('PUBLISH', ARGV[1], 'failed ' .. class)
end

if cool_until > now and cool_until - now <= 3600000000 then -- no pause is longer
  return {'cooling', math.ceil((cool_until - now) / 1000), class}
end
return {'lost'}
