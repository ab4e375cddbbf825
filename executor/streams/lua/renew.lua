#!lua flags=allow-oom
-- Heartbeat of a worker, and of every lease it holds.
-- KEYS  lane, heartbeat, executors, record...
-- ARGV  group, consumer, heartbeat_ttl_ms, registration JSON, then (entry, generation) for each record
-- A lease is renewed only for its owner: an unguarded XCLAIM would steal work back from the next one. Whatever else lies
-- under the name of the registry or of a record costs no lease: the commit says what came of it.
-- Returns one word for each record: 'ok' | 'lost' | 'cancel'
local group, consumer = ARGV[1], ARGV[2]
redis.call('SET', KEYS[2], '1', 'PX', ARGV[3])
redis.pcall('HSET', KEYS[3], consumer, ARGV[4])
local answers = {}
for i = 4, #KEYS do
  local entry, generation = ARGV[5 + (i - 4) * 2], ARGV[6 + (i - 4) * 2]
  local found = redis.pcall('HMGET', KEYS[i], 'generation', 'state', 'cancel')
  local mine = #redis.call('XPENDING', KEYS[1], group, entry, entry, 1, consumer) > 0
  if found.err and is_wrong_type(found) then
    found = {generation, 'running', false}
  end
  if not mine or found[1] ~= generation or found[2] ~= 'running' then
    answers[#answers + 1] = 'lost'
  else
    redis.call('XCLAIM', KEYS[1], group, consumer, 0, entry, 'JUSTID')
    answers[#answers + 1] = found[3] and 'cancel' or 'ok'
  end
end
return answers
