#!lua flags=allow-oom
-- Ends what cannot be worked or answered: the acknowledgement, a dead letter, and its result wherever that can be. Which
-- of its keys hold something else is no matter. Repeating it is harmless.
-- KEYS  record, result, results, reply | results, output | results, ages, dead, the entry's stream, usage
-- ARGV  has_reply, has_output, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap, dead_cap,
--       group, entry, 'lane' | 'stream', its name, reason, error, outcome ('': nobody knows whose entry it is, so that
--       there is no result), result field/value...
-- Returns 1 (buried) | 0 (it was acknowledged before, or has its result)
local pairs_ = rest(ARGV, 15)
must_hold(KEYS[3], 'stream')
if redis.call('XACK', KEYS[8], ARGV[8], ARGV[9]) == 0 then
  return 0
end
local found, outcome = look(KEYS[1]), ARGV[14]
if found and found.state == 'done' then
  return 0
end
local about = {value_of(pairs_, 'id'), value_of(pairs_, 'tenant'), ARGV[10], ARGV[11], ARGV[12], ARGV[13]}
dead_letter(KEYS[7], ARGV[7], KEYS[1], about)
local is_first = ARGV[10] == 'lane' or not found or not found.state or redis.call('HGET', KEYS[1], 'entry') == ARGV[9]
if outcome ~= '' and is_first then  -- else the id is another request's, which has its own end
  if found and found.attempt then
    say(pairs_, 'attempt', found.attempt)
  end
  local keys = {KEYS[1], KEYS[2], KEYS[3], optional(KEYS[4], ARGV[1]), optional(KEYS[5], ARGV[2]), KEYS[6], KEYS[9]}
  terminal(keys, {ARGV[3], ARGV[4], ARGV[5], ARGV[6]}, outcome, pairs_)
end
return 1
