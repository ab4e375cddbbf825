-- Puts an evaluation into its lane: the record, how old it may become, and the thin entry that a worker reads.
-- fields = flat field/value list of the record, beside what every new record says
-- Returns the id of the lane entry
local function enter(record, lane, ages, id, tenant, traceparent, record_ttl_ms, max_age_ms, fields)
  redis.call('HSET', record, 'id', id, 'tenant', tenant, 'state', 'queued', 'attempt', 0, 'generation', 0,
    'queued_at', now_ms(), 'traceparent', traceparent, unpack(fields))
  redis.call('PEXPIRE', record, record_ttl_ms)
  redis.call('ZADD', ages, now_ms() + max_age_ms, record)
  redis.call('PEXPIRE', ages, record_ttl_ms)
  return redis.call('XADD', lane, '*', 'id', id, 'tenant', tenant, 'attempt', 1, 'traceparent', traceparent)
end
