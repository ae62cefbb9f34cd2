-- KEYS: updater; ARGV: owner attempt gen lease_ms; replies: 1 (mine, extended) | 0 (lost)
if redis.call('GET', KEYS[1]) == ARGV[3] .. ':' .. ARGV[1] .. ':' .. ARGV[2] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 0
