#!lua flags=allow-oom
-- Ends an expired lease: the entry goes back to the lane, or its evaluation is lost after its last attempt.
-- KEYS  record, result, results, reply | results, output | results, ages, lane, dead,
--       line (8: see lib/line.lua)
-- ARGV  has_reply, has_output, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap,
--       group, entry, lease_ms, dead_cap, jitter (0..1), result field/value...
-- Returns 'alive' | 'gone' | 'requeued' | 'lost'
local group, entry, line = ARGV[7], ARGV[8], rest(KEYS, 9)
local expired = redis.call('XPENDING', KEYS[7], group, 'IDLE', ARGV[9], entry, entry, 1)
if #expired == 0 then
  return 'alive'
end
local found = look(KEYS[1])
if found and (found.state == 'done' or found.state == 'duplicate' or redis.call('EXISTS', KEYS[1]) == 0) then
  redis.call('XACK', KEYS[7], group, entry)
  return 'gone'
end
local output = optional(KEYS[5], ARGV[2])
local begun = not found or found.state ~= 'queued'
local past = begun and {expired[1][2], 'its lease ran out', found and tail_of(output, found.attempt) or ''}
local keys = {KEYS[1], KEYS[2], KEYS[3], optional(KEYS[4], ARGV[1]), output, KEYS[6], line[7]}
local ending = {keys, {ARGV[3], ARGV[4], ARGV[5], ARGV[6]}, KEYS[8], ARGV[10], rest(ARGV, 12)}
return next_or_lost(ending, line, {KEYS[7], group, entry}, found, past, ARGV[11])
