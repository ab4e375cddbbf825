-- Puts an attempt where it belongs: into the lane, into the line before it, or among what waits for its tenant's rate.
-- paced: whether it has its place at that rate, or needs none.
local function queue(line, lane, group, member, paced, credit, ttl_ms)
  local _, tenant = owner_of(member)
  local at = not paced and next_at_rate(line[8], tenant)
  if at and at > now_ms() then
    delay(line, '=', member, at, ttl_ms)
    return
  end
  local used = redis.call('EXISTS', line[6]) == 0 and outstanding(lane, group)
  if used and used < tonumber(credit) and not at_quota(line[7], line[8], tenant) then
    let_in(line, lane, member)
  else
    wait(line, member, credit, ttl_ms)
    feed(line, lane, group, 1)
  end
end

-- Takes an evaluation in: its record, how old it may become, and its place.
-- terms  = {record_ttl_ms, max_age_ms, lane group, credit, priority (1..3), not_before_ms | 0, deadline_ms | 0}
-- fields = flat field/value list of the record, beside what every new record says
local function enter(record, lane, ages, line, id, tenant, traceparent, terms, fields)
  local now, not_before, deadline = now_ms(), tonumber(terms[6]), tonumber(terms[7])
  local begins = math.max(now, not_before)
  local ttl, due = terms[1] + begins - now, begins + terms[2]
  redis.call('HSET', record, 'id', id, 'tenant', tenant, 'state', 'queued', 'attempt', 0, 'generation', 0,
    'queued_at', begins, 'traceparent', traceparent, 'priority', terms[5], unpack(fields))
  if deadline > 0 then
    redis.call('HSET', record, 'deadline', deadline)
    due = math.min(due, deadline)
  end
  redis.call('PEXPIRE', record, ttl)
  redis.call('ZADD', ages, due, record)
  keep(ages, ttl)
  mark(line[7], 'open', tenant, id)
  keep(line[7], ttl)
  local member = member_of(record)
  if not_before > now then
    delay(line, '+', member, not_before, ttl)
  else
    queue(line, lane, terms[3], member, false, terms[4], ttl)
  end
end
