#!lua flags=allow-oom
-- The one step that ends an attempt with a result. A stale owner is refused; repeating it is harmless.
-- KEYS  record, result, results, reply | results, output | results, ages, lane, dead,
--       line (8: see lib/line.lua)
-- ARGV  has_reply, has_output, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap,
--       group, consumer, entry, generation, fetch, leave, dead_cap, outcome, result field/value...
-- fetch  how many next entries of the lane to hand to this consumer in the same step
-- leave  '1': remove the consumer if it holds nothing any more (a one-shot worker's last word)
-- Returns {'committed' | 'stale', entry...}; an entry is {entry id, {field, value, ...}}
local group, consumer, entry, generation = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local found = redis.call('HMGET', KEYS[1], 'generation', 'state', 'tenant')
local answer = {'stale'}
if found[1] == generation and found[2] == 'running' then
  local line = rest(KEYS, 9)
  local flow = {ARGV[3], ARGV[4], ARGV[5], ARGV[6]}
  local keys = {KEYS[1], KEYS[2], KEYS[3], optional(KEYS[4], ARGV[1]), optional(KEYS[5], ARGV[2]), KEYS[6], line[7]}
  if ARGV[14] == 'lost' then
    remember(KEYS[1], consumer)
    lost(keys, flow, KEYS[8], ARGV[13], 'attempts', rest(ARGV, 15))
  else
    terminal(keys, flow, ARGV[14], rest(ARGV, 15))
  end
  redis.call('XACK', KEYS[7], group, entry)
  feed(line, KEYS[7], group, math.max(1, tonumber(ARGV[11])), found[3])
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
