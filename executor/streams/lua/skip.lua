#!lua flags=allow-oom
-- Passes over the first undelivered entry of a lane when its evaluation has ended: cancelled or expired in the queue.
-- It is read and acknowledged as a worker would, never deleted, so that lag stays exact and nobody is woken for it.
-- KEYS  record, lane, dead
-- ARGV  group, consumer, entry, dead_cap, id, tenant, 'lane'; and when it can have no evaluation: lane, reason, error
-- Returns 1 (passed over) | 0 (somebody was there first, or it has not ended as far as its record tells)
local known = look(KEYS[1])
if not known or known.state ~= 'done' and known.state ~= 'duplicate' and redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local found = group_of(KEYS[2], ARGV[1])
local first = found and redis.call('XRANGE', KEYS[2], '(' .. found['last-delivered-id'], '+', 'COUNT', 1)[1]
if not first or first[1] ~= ARGV[3] then
  return 0
end
redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', KEYS[2], '>')
redis.call('XACK', KEYS[2], ARGV[1], ARGV[3])
redis.call('XGROUP', 'DELCONSUMER', KEYS[2], ARGV[1], ARGV[2])
if ARGV[8] then
  dead_letter(KEYS[3], ARGV[4], KEYS[1], rest(ARGV, 5))
end
return 1
