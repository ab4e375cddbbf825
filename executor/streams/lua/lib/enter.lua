-- Takes an evaluation in: its record, how old it may become, and its place in the lane, in the line before it, or among
-- what may not begin yet.
-- terms  = {record_ttl_ms, max_age_ms, lane group, credit, priority (1..3), not_before_ms | 0, deadline_ms | 0}
-- fields = flat field/value list of the record, beside what every new record says
local function enter(record, lane, ages, line, id, tenant, traceparent, terms, fields)
  local now, credit, priority = now_ms(), tonumber(terms[4]), tonumber(terms[5])
  local not_before, deadline = tonumber(terms[6]), tonumber(terms[7])
  local begins = math.max(now, not_before)
  local ttl, due = terms[1] + begins - now, begins + terms[2]
  redis.call('HSET', record, 'id', id, 'tenant', tenant, 'state', 'queued', 'attempt', 0, 'generation', 0,
    'queued_at', begins, 'traceparent', traceparent, 'priority', priority, unpack(fields))
  if deadline > 0 then
    redis.call('HSET', record, 'deadline', deadline)
    due = math.min(due, deadline)
  end
  redis.call('PEXPIRE', record, ttl)
  redis.call('ZADD', ages, due, record)
  keep(ages, ttl)
  local member = member_of(tenant, id, 1, traceparent)
  if not_before > now then
    redis.call('ZADD', line[5], not_before, priority .. ' ' .. member)
    keep(line[5], ttl)
    return
  end
  local used = outstanding(lane, terms[3])
  if used and used < credit and redis.call('EXISTS', line[4]) == 0 then
    let_in(lane, member)
  else
    wait(line, priority, member, credit, ttl)
    feed(line, lane, terms[3], 1)
  end
end
