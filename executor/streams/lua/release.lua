#!lua flags=allow-oom
-- The owner gives an entry back: read and never started, or started and not to be finished here.
-- KEYS  record, lane, line (8: see lib/line.lua)
-- ARGV  group, consumer, entry, jitter (0..1), generation ('' when this worker does not know of a claim; its answer may be lost)
-- An attempt that was claimed stays counted, so that work which always outlives its worker comes to an end.
-- Returns 'requeued' | 'gone' (acknowledged) | 'lost'
local group, consumer, entry = ARGV[1], ARGV[2], ARGV[3]
if #redis.call('XPENDING', KEYS[2], group, entry, entry, 1, consumer) == 0 then
  return 'lost'
end
local found = redis.call('HMGET', KEYS[1], 'state', 'generation')
if found[1] == 'queued' or (found[1] == 'running' and (ARGV[5] == '' or found[2] == ARGV[5])) then
  if found[1] == 'running' then
    remember(KEYS[1], consumer)
  end
  requeue(KEYS[1], KEYS[2], rest(KEYS, 3), group, entry, ARGV[4])
  return 'requeued'
end
redis.call('XACK', KEYS[2], group, entry)
return 'gone'
