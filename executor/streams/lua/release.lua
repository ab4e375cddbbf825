#!lua flags=allow-oom
-- The owner gives an entry back: read and never started, or started and not to be finished here.
-- KEYS  record, result, results, reply | results, output | results, ages, lane, dead,
--       line (8: see lib/line.lua)
-- ARGV  has_reply, has_output, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap,
--       group, consumer, entry, dead_cap, jitter (0..1), generation ('' when this worker does not know of a claim; its
--       answer may be lost), how the attempt ended, its last output, result field/value...
-- An attempt that was claimed stays counted, so that work which always outlives its worker comes to an end.
-- Returns 'requeued' | 'lost' (it was the last attempt) | 'gone' (acknowledged) | 'passed' (the entry is another's)
local group, consumer, entry, generation, line = ARGV[7], ARGV[8], ARGV[9], ARGV[12], rest(KEYS, 9)
if #redis.call('XPENDING', KEYS[7], group, entry, entry, 1, consumer) == 0 then
  return 'passed'
end
local found = look(KEYS[1])
local begun = not found or found.state ~= 'queued'
if found and found.state == 'running' and generation ~= '' and found.generation ~= generation
  or found and (found.state == 'done' or found.state == 'duplicate' or redis.call('EXISTS', KEYS[1]) == 0) then
  redis.call('XACK', KEYS[7], group, entry)
  return 'gone'
end
local past = begun and {consumer, ARGV[13], ARGV[14]}
local keys = {KEYS[1], KEYS[2], KEYS[3], optional(KEYS[4], ARGV[1]), optional(KEYS[5], ARGV[2]), KEYS[6], line[7]}
local ending = {keys, {ARGV[3], ARGV[4], ARGV[5], ARGV[6]}, KEYS[8], ARGV[10], rest(ARGV, 15)}
return next_or_lost(ending, line, {KEYS[7], group, entry}, found, past, ARGV[11])
