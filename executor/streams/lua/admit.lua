#!lua
-- Takes one valid request from ingress into its lane. The only way new work enters one.
-- KEYS  record, result, results, reply | results, lane, ingress, ages
-- ARGV  has_reply, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap,
--       ingress group, ingress entry, id, tenant, traceparent, record_ttl_ms, max_age_ms, record field/value...
-- Atomic: record + lane entry + acknowledgement of the ingress entry.
-- Returns {'admitted', lane entry id} | {'duplicate', state, outcome} | {'reply_type'} (nothing written: reject it)
local reply_key = optional(KEYS[4], ARGV[1])
local flow = {ARGV[2], ARGV[3], ARGV[4], ARGV[5]}
local group, entry, id, tenant = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
must_hold(KEYS[1], 'hash')
must_hold(KEYS[5], 'stream')
must_hold(KEYS[7], 'zset')
if redis.call('EXISTS', KEYS[1]) == 1 then
  local answer = duplicate(KEYS[1], KEYS[2], reply_key, flow, id, tenant)
  redis.call('XACK', KEYS[6], group, entry)
  return answer
end
if reply_key and not holds(reply_key, 'stream') then
  return {'reply_type'}
end
local fields = rest(ARGV, 13)
fields[#fields + 1] = 'entry'
fields[#fields + 1] = entry
local added = enter(KEYS[1], KEYS[5], KEYS[7], id, tenant, ARGV[10], ARGV[11], ARGV[12], fields)
redis.call('XACK', KEYS[6], group, entry)
return {'admitted', added}
