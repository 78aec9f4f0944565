"""What the server does in one step: Lua scripts, each on the keys that it is given and no others.

In a record's hash `v` is the version and `d` the document; where they are missing it does not count
yet. `r` is the request. `k` is the dedupe key that the operation holds: if another key leads to it,
that is out of date. `dropped k` is the key that it held; it tells a repeated swap, and the purge,
what may still lead to it.

A script may be run again with the same arguments, as its answer may have been lost.

They are sent whole each time: it costs as little as their digest does, and a server that was
restarted knows them at once.
"""

from __future__ import annotations

from raincheck.operations.operation import SETTLED

# A hint must not make a write fail: hence pcall, for users who may not publish.
_TELL = "if {hint} ~= '' then redis.pcall('PUBLISH', {channel}, {hint}) end"

# record; document, expiry (ms) or '', channel, hint or '', fields and values …
# Returns 0 if another document is there.
CREATE = f"""
local stored = redis.call('HGET', KEYS[1], 'd')
if stored then return stored == ARGV[1] and 1 or 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
if ARGV[2] ~= '' then redis.call('PEXPIREAT', KEYS[1], ARGV[2]) end
{_TELL.format(channel="ARGV[3]", hint="ARGV[4]")}
return 1
"""

# record; channel, hint, dedupe key. Makes a record count that was only prepared; returns the
# document. Returns nothing if it does not hold the key.
CONFIRM = f"""
local stored = redis.call('HMGET', KEYS[1], 'd', 'prepared d', 'prepared v', 'k')
if stored[4] ~= ARGV[3] then return false end
if stored[1] then return stored[1] end
if not stored[2] then return false end
redis.call('HSET', KEYS[1], 'd', stored[2], 'v', stored[3])
redis.call('HDEL', KEYS[1], 'prepared d', 'prepared v')
redis.call('PERSIST', KEYS[1])
{_TELL.format(channel="ARGV[1]", hint="ARGV[2]")}
return stored[2]
"""

# record. Deletes a record that was only prepared.
TAKE_BACK = """
if redis.call('HEXISTS', KEYS[1], 'd') == 1 then return 0 end
return redis.call('UNLINK', KEYS[1])
"""

_IF_STILL = """
local stored = redis.call('HMGET', KEYS[1], 'v', 'd', 'k')
if stored[1] ~= ARGV[1] and stored[2] ~= ARGV[3] then return false end
if ARGV[7] ~= '' and redis.call('SISMEMBER', KEYS[2], ARGV[7]) == 0 then return false end
"""
_REPLACE = f"""
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'd', ARGV[3])
{_TELL.format(channel="ARGV[5]", hint="ARGV[6]")}
if ARGV[4] == '' then
  redis.call('PERSIST', KEYS[1])
  return {{stored[3] or '', {{}}}}
end
redis.call('PEXPIREAT', KEYS[1], ARGV[4])
redis.call('PEXPIREAT', KEYS[2], ARGV[4])
return {{stored[3] or '', redis.call('SMEMBERS', KEYS[2])}}
"""

# record, list of chunks; old version, version, document, expiry (ms) or '', channel, hint or '', a
# member or ''. Returns nothing if the version is another one, or the member is not in the list: a
# server without room for the chunk has refused that, and may have room for this. Else it returns
# the dedupe key or '', and where there is an expiry the list of chunks, for their keys to get it.
SWAP = _IF_STILL + _REPLACE

# A server that is out of memory refuses what may take more, but not in a script that has begun to
# write: to delete what is not there is how this one begins. For what gives up a response.
_ALL_THE_SAME = "redis.call('HDEL', KEYS[1], '')\n"
SWAP_ALL_THE_SAME = _ALL_THE_SAME + SWAP

# index; score, member. Adds an entry in the same way.
ADD_ALL_THE_SAME = """
redis.call('ZREM', KEYS[1], '')
return redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
"""

# SWAP's keys and arguments, then chunk …; then '1' or '' for the request to be dropped, the same
# for the dedupe key, the beginning of the members to be dropped, members … Where some of these were
# not given, it does nothing and returns a list of them and no more. The key that it returns may be
# dropped by now.
SWAP_AND_DROP = f"""{_IF_STILL}
if ARGV[8] ~= '' then
  local given, missing = {{}}, {{}}
  for i = 11, #ARGV do given[ARGV[i]] = true end
  for _, member in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    if member:sub(1, #ARGV[10]) == ARGV[10] and not given[member] then
      table.insert(missing, member)
    end
  end
  if #missing > 0 then return {{missing}} end
  for i = 11, #ARGV do
    redis.call('UNLINK', KEYS[i - 8])
    redis.call('SREM', KEYS[2], ARGV[i])
  end
  redis.call('HDEL', KEYS[1], 'r')
end
if ARGV[9] ~= '' then
  if stored[3] then
    redis.call('HSET', KEYS[1], 'dropped k', stored[3])
    redis.call('HDEL', KEYS[1], 'k')
  else
    stored[3] = redis.call('HGET', KEYS[1], 'dropped k')
  end
end
{_REPLACE}"""

# record, list of chunks, chunk; member, data, fence or '' for a request's. Keeps nothing, and
# returns 0, where the record says that this fence is overtaken (`operation.is_overtaken`).
_SETTLED = " or ".join(f"state == '{state}'" for state in sorted(SETTLED))
WRITE_CHUNK = f"""
local document = ARGV[3] ~= '' and redis.call('HGET', KEYS[1], 'd')
local is_read, record = pcall(cjson.decode, document or '')
if is_read and type(record) == 'table' then
  local fence, given, state = tonumber(record.fence) or 0, tonumber(ARGV[3]), record.state
  if fence > given or (fence == given and ({_SETTLED})) then return 0 end
end
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], ARGV[2])
local left = redis.call('PTTL', KEYS[2])
if left > 0 then redis.call('PEXPIRE', KEYS[3], left) end
return 1
"""

# record, list of chunks, chunk …; members … Deletes the request, too.
DISCARD = """
redis.call('HDEL', KEYS[1], 'r')
if #ARGV > 0 then
  redis.call('UNLINK', unpack(KEYS, 3))
  redis.call('SREM', KEYS[2], unpack(ARGV))
end
return 1
"""

# record, list of chunks, chunk …; version, members … Deletes an operation if it still has this
# version and no other chunks. Returns nothing if not; else the dedupe key that it holds or held,
# or ''.
PURGE = """
if redis.call('HGET', KEYS[1], 'v') ~= ARGV[1] then return false end
if #ARGV > 1 then
  redis.call('UNLINK', unpack(KEYS, 3))
  redis.call('SREM', KEYS[2], unpack(ARGV, 2))
end
if redis.call('EXISTS', KEYS[2]) == 1 then return false end
local dedupe = redis.call('HMGET', KEYS[1], 'k', 'dropped k')
redis.call('UNLINK', KEYS[1])
return dedupe[1] or dedupe[2] or ''
"""

# key; value, command, arguments … Runs the command on the key if it still has the value.
IF_IT_HOLDS = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call(ARGV[2], KEYS[1], unpack(ARGV, 3))
return 1
"""

# key; value, lifetime (ms), '1' or '' for whether there is an old value, old value. Returns 0 if
# another one is there.
KEEP = """
local kept = redis.call('GET', KEYS[1])
local is_old = kept == ARGV[4]
if ARGV[3] == '' then is_old = not kept end
if not is_old and kept ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# index; score, member, count. Returns members and scores after that place. Compares bytes itself,
# as Lua's `>` asks the server's locale.
READ_INDEX = """
local function is_after(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x > y end
  end
  return #a > #b
end
local low = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[1])
local high = low + redis.call('ZCOUNT', KEYS[1], ARGV[1], ARGV[1])
while low < high do
  local middle = math.floor((low + high) / 2)
  if is_after(redis.call('ZRANGE', KEYS[1], middle, middle)[1], ARGV[2]) then
    high = middle
  else
    low = middle + 1
  end
end
return redis.call('ZRANGE', KEYS[1], low, low + ARGV[3] - 1, 'WITHSCORES')
"""

# record, index; version or '' for none, member. Removes an entry if the record is still that one.
# Not in a cluster, where the two keys lie on different nodes.
REMOVE_ENTRY = """
local stored = redis.call('HMGET', KEYS[1], 'v', 'prepared v')
if (stored[1] or '') ~= ARGV[1] or stored[2] then return 0 end
return redis.call('ZREM', KEYS[2], ARGV[2])
"""

# record, index …; document, members … Removes entries if the record is this very one: a change that
# was refused makes nothing wrong. Not in a cluster, either.
LEAVE = """
if redis.call('HGET', KEYS[1], 'd') ~= ARGV[1] then return 0 end
for i = 2, #KEYS do redis.call('ZREM', KEYS[i], ARGV[i]) end
return 1
"""

# index; score, members … Removes the members that have this score or a lower one.
REMOVE_UNTIL = """
for i = 2, #ARGV do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) <= tonumber(ARGV[1]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return 1
"""

# any key: the node that has it is the one whose clock all ask.
TIME = "return redis.call('TIME')"
