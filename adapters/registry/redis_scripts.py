"""The Redis registry's scripts in Lua: one atomic script for each write, and one that reads many tasks.

The first write of a script decides. Redis refuses it if memory is full (`maxmemory`), the server is a replica or its
disk is full; after it, all other writes succeed, so no script stops half-way. A script that frees memory begins with a
command that is allowed even then; every other script begins with one that needs memory.

Keys, under the prefix of the store:

- `task:<tenant>:<task>`, a hash: `last` version number, count of `live` versions; per version `digest:<n>`,
  `content:<n>` (of its files), `actor:<n>` and `at:<n>` (microseconds since 1970); `known:<digest>` → number,
  `alias:<name>` → number, `traffic` as JSON
- `tenants` and `tasks:<tenant>`, sets of all names ever used
- `files:<content>`, a hash of names and bytes; `uses:<content>`, the set of tasks with these files;
  `contents:<digest>`, the set of contents of an adapter. A version without a content, of an older registry, has its
  files under its digest
- `changes`, a stream with ids `<position>-0`; `position`, the last of them; `trimmed`, that of the last `log_trimmed`
"""

_PRELUDE = """
local task_key, position_key, changes_key, tenants_key, tasks_key, files_key, uses_key, contents_key = unpack(KEYS)
local tenant, task, actor = ARGV[1], ARGV[2], ARGV[3]
local user = tenant .. ':' .. task

local function at_now()
  local now = redis.call('TIME')
  return now[1] .. string.format('%03d', math.floor(tonumber(now[2]) / 1000)) .. '000'
end

local function log(kind, version, digest, at, alias, traffic)
  local position = redis.call('INCR', position_key)
  local entry = {'kind', kind, 'tenant', tenant, 'task', task, 'version', version, 'digest', digest,
                 'actor', actor, 'at', at}
  if alias then table.insert(entry, 'alias') table.insert(entry, alias) end
  if traffic then table.insert(entry, 'traffic') table.insert(entry, traffic) end
  redis.call('XADD', changes_key, string.format('%.0f-0', position), unpack(entry))
end

local function point(alias, version, digest, at)
  redis.call('HSET', task_key, 'alias:' .. alias, version)
  log('alias_set', version, digest, at, alias)
end

local function field_of(version)
  return type(version) == 'number' and string.format('%.0f', version) or 'null'
end

-- take the version in production out of canary and shadow; the text is as `traffic_field` writes it
local function set_production_traffic(version, end_canary, at)
  local before = redis.call('HGET', task_key, 'traffic')
  if not before then return end
  local parts = cjson.decode(before)
  local canary, shadow = field_of(parts.canary), field_of(parts.shadow)
  local percent = string.match(before, '"percent": ([^,}]+)') or '0.0'
  local ends, is_shadow = canary ~= 'null' and (end_canary or canary == version), shadow == version
  if not ends and not is_shadow then return end
  if ends then canary, percent = 'null', '0.0' end
  if is_shadow then shadow = 'null' end
  local traffic = string.format('{"canary": %s, "percent": %s, "shadow": %s}', canary, percent, shadow)
  redis.call('HSET', task_key, 'traffic', traffic)
  log('traffic_set', '0', '', at, nil, traffic)
end

-- the number of aliases that the task would have, if that is more than a limit
local function too_many(names, limit)
  local count = 0
  for _, alias in ipairs(names) do
    if redis.call('HEXISTS', task_key, 'alias:' .. alias) == 0 then count = count + 1 end
  end
  if count == 0 then return nil end
  for _, field in ipairs(redis.call('HKEYS', task_key)) do
    if string.find(field, '^alias:') then count = count + 1 end
  end
  return count > tonumber(limit) and count or nil
end

local function add_version(version, digest, content, by, at, first_file)
  redis.call('HSET', task_key, 'digest:' .. version, digest, 'content:' .. version, content, 'actor:' .. version, by,
             'at:' .. version, at, 'known:' .. digest, version)
  redis.call('HINCRBY', task_key, 'live', 1)
  redis.call('SADD', tenants_key, tenant)
  redis.call('SADD', tasks_key, task)
  redis.call('SADD', uses_key, user)
  redis.call('SADD', contents_key, content)
  for i = first_file, #ARGV, 2 do redis.call('HSETNX', files_key, ARGV[i], ARGV[i + 1]) end
end
"""

PUBLISH = (
    _PRELUDE
    + """
local digest, content, for_known, for_new = ARGV[4], ARGV[5], cjson.decode(ARGV[6]), cjson.decode(ARGV[7])
local max_aliases, max_names = ARGV[8], tonumber(ARGV[9])
local at = at_now()
local known = redis.call('HGET', task_key, 'known:' .. digest)
if not known and redis.call('EXISTS', task_key) == 0 then
  local names = redis.call('SCARD', tasks_key) + 1
  if names > max_names then return {'names', names} end
end
local count = too_many(known and for_known or for_new, max_aliases)
if count then return {'aliases', count} end
if known then
  for _, alias in ipairs(for_known) do
    if redis.call('HGET', task_key, 'alias:' .. alias) ~= known then point(alias, known, digest, at) end
    if alias == 'production' then set_production_traffic(known, false, at) end
  end
  return {tonumber(known), 0}
end
local version = string.format('%.0f', redis.call('HINCRBY', task_key, 'last', 1))
add_version(version, digest, content, actor, at, 10)
log('published', version, digest, at)
for _, alias in ipairs(for_new) do point(alias, version, digest, at) end
return {tonumber(version), 1}
"""
)

SET_ALIAS = (
    _PRELUDE
    + """
local alias, version, expected, end_canary = ARGV[4], ARGV[5], ARGV[6], ARGV[7] == '1'
local digest = redis.call('HGET', task_key, 'digest:' .. version)
if not digest then return {'missing'} end
local current = redis.call('HGET', task_key, 'alias:' .. alias)
if expected ~= '' and (current or '0') ~= expected then return {'elsewhere', current or '0'} end
local count = too_many({alias}, ARGV[8])
if count then return {'aliases', tostring(count)} end
local at = at_now()
if current ~= version then point(alias, version, digest, at) end
if alias == 'production' then set_production_traffic(version, end_canary, at) end
return {'done'}
"""
)

DELETE_ALIAS = (
    _PRELUDE
    + """
local alias, expected = ARGV[4], ARGV[5]
local version = redis.call('HGET', task_key, 'alias:' .. alias)
if not version then return {'missing'} end
if expected ~= '' and version ~= expected then return {'elsewhere', version} end
redis.call('HDEL', task_key, 'alias:' .. alias)
log('alias_deleted', version, redis.call('HGET', task_key, 'digest:' .. version), at_now(), alias)
return {'done'}
"""
)

SET_TRAFFIC = (
    _PRELUDE
    + """
local traffic, no_traffic, needed, expected = ARGV[4], ARGV[5], cjson.decode(ARGV[6]), ARGV[7]
if (redis.call('HGET', task_key, 'live') or '0') == '0' then return {'no task'} end
local current = redis.call('HGET', task_key, 'traffic') or no_traffic
if expected ~= '' and current ~= expected then return {'elsewhere', current} end
for _, version in ipairs(needed) do
  if redis.call('HEXISTS', task_key, 'digest:' .. version) == 0 then return {'missing', version} end
end
local production = redis.call('HGET', task_key, 'alias:production')
for _, version in ipairs(needed) do
  if version == production then return {'production', version} end
end
if current ~= traffic then
  redis.call('HSET', task_key, 'traffic', traffic)
  log('traffic_set', '0', '', at_now(), nil, traffic)
end
return {'done'}
"""
)

DELETE_VERSION = (
    _PRELUDE
    + """
local version, content = ARGV[4], ARGV[5]
local digest = redis.call('HGET', task_key, 'digest:' .. version)
if not digest then return {'missing'} end
local fields = redis.call('HGETALL', task_key)
local pointing, needed
for i = 1, #fields, 2 do
  local alias = string.match(fields[i], '^alias:(.*)')
  if alias and fields[i + 1] == version and (not pointing or alias < pointing) then pointing = alias end
  if fields[i] == 'traffic' then
    local traffic = cjson.decode(fields[i + 1])
    needed = tostring(traffic.canary) == version or tostring(traffic.shadow) == version
  end
end
if pointing then return {'aliased', pointing} end
if needed then return {'in traffic'} end
redis.call('HDEL', task_key, 'digest:' .. version, 'content:' .. version, 'actor:' .. version, 'at:' .. version,
           'known:' .. digest)
redis.call('HINCRBY', task_key, 'live', -1)
redis.call('SREM', uses_key, user)
if redis.call('SCARD', uses_key) == 0 then
  redis.call('UNLINK', files_key)
  redis.call('SREM', contents_key, content)
end
log('version_deleted', version, digest, at_now())
return {'done'}
"""
)

RESTORE_VERSION = (
    _PRELUDE
    + """
local version, digest, content, at = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if redis.call('HEXISTS', task_key, 'digest:' .. version) == 1
   or redis.call('HEXISTS', task_key, 'known:' .. digest) == 1 then return {'taken'} end
if tonumber(redis.call('HGET', task_key, 'last') or 0) < tonumber(version) then
  redis.call('HSET', task_key, 'last', version)
end
add_version(version, digest, content, actor, at, 8)
return {'done'}
"""
)

RESTORE_TASK = (
    _PRELUDE
    + """
local last, traffic, aliases, needed = ARGV[4], ARGV[5], cjson.decode(ARGV[6]), cjson.decode(ARGV[7])
for _, version in ipairs(needed) do
  if redis.call('HEXISTS', task_key, 'digest:' .. version) == 0 then return {'missing', version} end
end
if tonumber(redis.call('HGET', task_key, 'last') or 0) > tonumber(last) then
  last = redis.call('HGET', task_key, 'last')
end
redis.call('HSET', task_key, 'last', last, 'traffic', traffic)
for _, field in ipairs(redis.call('HKEYS', task_key)) do
  if string.find(field, '^alias:') then redis.call('HDEL', task_key, field) end
end
redis.call('SADD', tenants_key, tenant)
redis.call('SADD', tasks_key, task)
for _, pair in ipairs(aliases) do redis.call('HSET', task_key, 'alias:' .. pair[1], pair[2]) end
return {'done'}
"""
)

RESTORE_LOG = """
local position_key, changes_key = KEYS[1], KEYS[2]
local entries = cjson.decode(ARGV[1])
local position = redis.call('GET', position_key) or '0'
if tonumber(position) >= tonumber(entries[1][1]) then return {'past', position} end
redis.call('SET', position_key, entries[#entries][1])
for _, entry in ipairs(entries) do redis.call('XADD', changes_key, entry[1] .. '-0', unpack(entry[2])) end
return {'done'}
"""

TRIM_LOG = (
    _PRELUDE
    + """
local trimmed_key, horizon, expected, positions = KEYS[6], ARGV[4], ARGV[5], cjson.decode(ARGV[6])
if (redis.call('GET', trimmed_key) or '0') ~= expected then return {'elsewhere'} end
for first = 1, #positions, 1000 do
  redis.call('XDEL', changes_key, unpack(positions, first, math.min(first + 999, #positions)))
end
log('log_trimmed', horizon, '', at_now())
local position = redis.call('GET', position_key)
redis.call('SET', trimmed_key, position)
return {'done', position}
"""
)

READ_TASKS = """
local tasks = {}
for i = 2, #KEYS do tasks[i - 1] = redis.call('HGETALL', KEYS[i]) end
return {cjson.encode(tasks), redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)}
"""
"""The hashes of tasks as one JSON text, which is read five times as fast as their replies, and the log's last entry."""
