#!lua
-- Appends live output of a running attempt; refused once the attempt is not the owner's any more.
-- KEYS  record, output
-- ARGV  generation, cap, ttl_ms, attempt, then (stream name, chunk)...
-- Returns 1 | 0 (stale, nothing written)
local found = redis.call('HMGET', KEYS[1], 'generation', 'state')
if found[1] ~= ARGV[1] or found[2] ~= 'running' then
  return 0
end
for i = 5, #ARGV, 2 do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'attempt', ARGV[4], ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
