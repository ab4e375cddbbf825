#!lua flags=allow-oom
-- The one step that ends an attempt with a result. A stale owner is refused; repeating it is harmless.
-- KEYS  record, result, results, reply | results, output | results, ages, lane, dead,
--       line (8: see lib/line.lua)
-- ARGV  has_reply, has_output, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap,
--       group, consumer, entry, generation, fetch, leave, dead_cap, how the attempt ended, its last output, outcome,
--       result field/value...
-- fetch  how many next entries of the lane to hand to this consumer in the same step
-- leave  '1': remove the consumer if it holds nothing any more (a one-shot worker's last word)
-- Returns {'committed' | 'stale', entry...}; an entry is {entry id, {field, value, ...}}
local group, consumer, entry, generation = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local found = redis.pcall('HMGET', KEYS[1], 'generation', 'state')
if found.err then
  if not is_wrong_type(found) then
    error(found)
  end
  -- There is no generation to go by: whoever has the entry may answer it.
  local has_entry = #redis.call('XPENDING', KEYS[7], group, entry, entry, 1, consumer) > 0
  found = {has_entry and generation, 'running'}
end
local answer = {'stale'}
if found[1] == generation and found[2] == 'running' then
  local line, pairs_ = rest(KEYS, 9), rest(ARGV, 17)
  local keys = {KEYS[1], KEYS[2], KEYS[3], optional(KEYS[4], ARGV[1]), optional(KEYS[5], ARGV[2]), KEYS[6], line[7]}
  local outcome = ARGV[16]
  if outcome == 'lost' then
    must_hold(KEYS[3], 'stream')
    remember(KEYS[1], {consumer, ARGV[14], ARGV[15]})
  end
  local ending = {keys, {ARGV[3], ARGV[4], ARGV[5], ARGV[6]}, KEYS[8], ARGV[13], pairs_}
  conclude(ending, outcome, outcome == 'lost' and 'attempts', KEYS[7])
  redis.call('XACK', KEYS[7], group, entry)
  feed_if_ours(line, KEYS[7], group, math.max(1, tonumber(ARGV[11])), value_of(pairs_, 'tenant'))
  answer = {'committed'}
elseif found[1] == generation and found[2] == 'done' then
  answer = {'committed'}
end
local fetch = tonumber(ARGV[11])
if fetch > 0 then
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', fetch, 'STREAMS', KEYS[7], '>')
  if read then
    for _, item in ipairs(read[1][2]) do
      answer[#answer + 1] = item
    end
  end
end
if ARGV[12] == '1' and #redis.call('XPENDING', KEYS[7], group, '-', '+', 1, consumer) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[7], group, consumer)
end
return answer
