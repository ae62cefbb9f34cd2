-- Stores the fetched token and gives the lease back.
--
-- KEYS  token meta, and of the grant: updater carry meta
-- ARGV  channel
--       owner, attempt, gen   the lease
--       value
--       left_ms               how long it may be used from now
--       life_ms               the whole life that the issuer gave it
--       age_ms                how long ago the fetch began; -1: unknown
--       [carry [carry_ms]]    the secret for the next fetch, and how long it is kept
-- Replies
--       written doubted
--       superseded gen value left_ms life_ms doubted
--       invalid
local gen = tonumber(ARGV[4])
local token = redis.call('HMGET', KEYS[1], 'gen', 'value', 'life_ms')
local meta = redis.call('HMGET', KEYS[2], 'gen', 'invalidated', 'doubted')
local stored, granted = tonumber(token[1] or 0), tonumber(meta[1] or 0)
local invalidated, doubt = tonumber(meta[2] or 0), tonumber(meta[3] or 0)

if stored == gen and token[2] == ARGV[5] then -- the first reply to this commit was lost
  redis.call('PEXPIRE', KEYS[2], 2592000000) -- a write, whose way to the replicas this connection can wait for
  return {'written', gen <= doubt and 1 or 0}
end

local updater = redis.call('GET', KEYS[3])
local leads = is_of(updater, ARGV[4], ARGV[2], ARGV[3])
if leads then
  redis.call('DEL', KEYS[3])
end
-- Nobody can have asked the issuer after the last grant, even if its lease is over.
local last = leads or (not updater and granted == gen)
if not last or stored == gen then -- nobody knows in which order the issuer granted what has been granted so far
  granted = math.max(granted, gen)
  doubt = math.max(doubt, granted, now)
  redis.call('HSET', KEYS[2], 'gen', int(granted), 'doubted', int(doubt))
  redis.pcall('PUBLISH', ARGV[1], 'doubted ' .. int(doubt))
end
if tonumber(redis.call('HGET', KEYS[5], 'pause_gen') or 0) <= gen then -- a later failure's pause stays
  redis.call('HDEL', KEYS[5], 'pause_until', 'pause_us', 'pause_class', 'pause_gen', 'fails')
end
redis.call('PEXPIRE', KEYS[2], 2592000000)

-- The last secret for the next fetch counts, whatever becomes of its token. A success that brought none shows that the issuer
-- still takes the last one.
local carry = redis.call('HMGET', KEYS[4], 'gen', 'presented_by')
if ARGV[9] and (not carry[1] or gen > tonumber(carry[1])) then
  redis.call('DEL', KEYS[4])
  redis.call('HSET', KEYS[4], 'value', ARGV[9], 'gen', ARGV[4])
  if ARGV[10] then
    redis.call('PEXPIRE', KEYS[4], ARGV[10])
  end
elseif not ARGV[9] and (leads or carry[2] == lease_of(ARGV[4], ARGV[2], ARGV[3])) then
  redis.call('HDEL', KEYS[4], 'presented_by', 'presented_at')
end

if stored >= gen and stored > invalidated then
  local doubted = stored <= doubt and 1 or 0
  return {'superseded', token[1], token[2], left(KEYS[1], tonumber(token[3])), tonumber(token[3]), doubted}
end
if gen <= invalidated or stored >= gen then
  return {'invalid'}
end
-- A server that was stopped carries this out late: more time has passed here since the grant than at the updater. What
-- the way here and the clocks' ticks explain does not count.
local usable, age = tonumber(ARGV[6]), tonumber(ARGV[8])
if age >= 0 then
  local late = math.floor((now - gen) / 1000) - age
  usable = late > 100 and usable - late or usable
end
if usable < 1 then
  return {'invalid'}
end
redis.call('HSET', KEYS[1], 'value', ARGV[5], 'gen', ARGV[4], 'life_ms', ARGV[7])
redis.call('PEXPIRE', KEYS[1], int(usable))
redis.pcall('PUBLISH', ARGV[1], 'committed ' .. ARGV[4])
return {'written', gen <= doubt and 1 or 0}
