"""The commented ``swarm.yaml`` that ``agentctl init`` writes.

Every key is there with its default, so the file loads as it is and changes nothing; a test holds
it to that.
"""

from __future__ import annotations

TEMPLATE = """\
# swarm.yaml: the fleet of `agentctl swarm`.
# Every key may be left out; the values here are the defaults.
# After a change: `agentctl swarm reload` (or --dry-run) says what changes, and when it counts.
version: 1

# One directory for each agent is made below it: workspace, clone and chat identity.
# Counts for newly spawned agents.
workspace_base: ~/dev/claude

# true keeps workspaces and identities when the swarm stops.
# Work that is not in the hub yet is saved to a branch first, either way.
persist: false

# How many agents of which role.  Roles that come with agentctl: builder, auditor, planner, qa,
# general; your own are <AGENTCTL_HOME>/roles/<role>.yaml, which also override these key by key.
agents:
  - {role: builder, count: 3}

chat:
  # null: a chat server of the swarm's own.  Or ws://… wss://… of any agentchat server.
  # Counts after a restart of the swarm, as do listen and channel.
  url: null
  # Where the swarm's own server listens; port 0 takes a free one.
  listen: 127.0.0.1:6667
  # In quotes: '#' begins a comment.
  channel: "#agents"
  # Agent ids whose assignments are obeyed, beside our own coordinator's.
  coordinators: []
  # Agent ids whose task announcements are taken in; "*" for anyone on the channel.
  announcers: []

# What the swarm may use.  All of it counts at once on reload.
limits:
  # Sessions at the same time, in the whole swarm.
  max_active: 5
  # Memory of one session with all its processes; null is no limit.
  memory_mb: null
  # Processor of one session, 100 is one core; null is no limit.  Without a cgroup (see
  # 'agentctl doctor') it is not capped, the session runs at a lower priority.
  cpu_percent: null
  # Processes of one session: one that forks without end is ended there; null is no limit.
  max_processes: 2000
  # Wall clock of one session; 0 is no limit.
  max_task_minutes: 30
  # A session without output, processor time or I/O for so long is ended; 0 is never.
  stall_minutes: 10
  # Tokens (input and output) and dollars of the whole swarm, in all or per day (midnight UTC);
  # null is no limit.  When it is spent every session ends and its task waits for a new budget.
  # The same keys under a role's limits are for each of its agents.
  token_budget: null
  usd_budget: null
  budget_window: total            # total | day
  # Of each task, all its attempts together; a task that spends it fails.
  # A role, or `task add --token-budget N --usd-budget X` for one task, says otherwise.
  task_token_budget: null
  task_usd_budget: null
  # Say so when this share of a budget is spent.
  warn_at: 0.8
  # No session starts while less memory is free on the machine; 0 does not look.
  min_free_memory_mb: 1024
  # Nor while less disk is free below the home and the workspaces; then what may go is removed
  # first (see keep); 0 does not look.
  min_free_disk_mb: 2048
  # No session starts while the load average a processor is higher; null does not look.
  max_load: null
  # A provider's quota parks its runtime until the time the provider gave.  Where it gave none,
  # one small session of that runtime tries so often whether the quota is back.
  quota_probe_minutes: 5
  # Seconds between two session starts while the machine is busy.
  stagger_seconds: 1

health:
  # A daemon that misses so many heartbeats in a row is restarted; one is never enough.
  heartbeat_seconds: 30
  misses: 3
  # How often memory and processor use are measured.
  sample_seconds: 10

# When a child that crashed runs again: after 1, 2, 4 … seconds, at most cap_seconds.
restart:
  base_seconds: 1
  cap_seconds: 300
  # Running this long begins again at base_seconds.
  stable_seconds: 300
  # More restarts than this within the window: degraded, until `agentctl agent restart`.
  # 0 never gives up.
  max_restarts: 5
  window_seconds: 1800

stop:
  # From the polite signal to the kill, for a session to save its work.
  grace_seconds: 10

# The repository the fleet works on.  source, target, author and clone count after a restart of
# the swarm, the rest at once.
repo:
  # A directory or git address.  null: the repository `swarm up` is run in, else an empty one.
  source: null
  # The branch that tasks start from and are meant for.
  target: main
  # Author of commits, "Name <mail@example.org>"; null is your own git identity.
  author: null
  # shared: clones borrow objects from the hub, read-only (fast).  copy: full clones.
  clone: shared
  # How a task's branch lands on the target, in the swarm's own copy of the repository:
  # squash | merge | rebase | none (it stays a branch).
  merge: squash
  # Shell commands that must pass on the merged result before it lands, and how many minutes they
  # may take together (0: no limit).  Memory, processes and processor of each are limited as of a
  # session of the role that wrote it.
  checks: []
  check_minutes: 10
  # The branch of the source that landed work is pushed to, never with force and never one that
  # is checked out there; null does not publish.
  publish: "swarm/{target}"
  # Who approves a task's commit before it lands: none | agent (role auditor) | human
  review: none
  # How often a task may be sent back: conflicts, failing checks, reviewers.
  max_revisions: 2

# Who is told of what: a program (it gets the event as JSON on its standard input, and its kind and
# task in AGENTCTL_EVENT and AGENTCTL_TASK) or an address the same JSON is posted to; tried ten
# times.  Kinds: needs_human, review, merged, done, failed, plan, degraded,
# quota, budget, disk, publish; "*" is all.
# notify:
#   - {on: [needs_human, review, failed, degraded], command: [notify-send, agentctl]}
#   - {on: ["*"], webhook: "https://example.org/hook", timeout_seconds: 30}
notify: []

# Files and folders that are put here become tasks, each once.  A text is the task itself, and may
# begin with settings (role, priority, component, lane, labels, review, after, title) between two
# lines '---'; of a folder it is its TASK.md.  Names that end in .tmp .part .partial .crdownload,
# or begin with a dot, wait until they are renamed; what cannot be a task goes to .quarantine.
# Input and results are in AGENTCTL_HOME/tasks/<id>.
inbox:
  enabled: true
  # null: inbox in the home.  Else a folder of its own: all that lies in it is taken in.
  path: null
  # How long a drop must not have changed; 0: at once when it is closed or moved in.
  settle_seconds: 2
  role: builder
  component: ""
  priority: 0
  lane: ""
  # null: as the role or the repository says.
  review: null

# How many days things of ended tasks stay (0: for ever); `agentctl clean` removes what is older,
# and so does a swarm whose disk runs low.  Commits that are nowhere else are always kept.
keep:
  workspaces_days: 7              # of agents that are gone
  branches_days: 30
  logs_days: 30                   # of sessions, and of agents that are gone
  logs_mb: 2048                   # of all sessions together; 0 is no limit
  tasks_days: 90                  # inputs and results

# The HTTP interface for agents outside the fleet (docs/lanes.md), on the loopback only, as in
# 127.0.0.1:8765; null: none.  Who uses it shows what AGENTCTL_HOME/api.token holds.
# Counts after a restart of the swarm.
api:
  listen: null
  # Whether its clients may approve, reject and answer in your name.
  decide: false

# The agent CLIs; a role names one.  claude, codex, opencode and scripted (a stand-in without a
# model, to try a set-up for free) need no entry here.  Counts for newly spawned agents.
# runtimes:
#   claude:
#     adapter: claude             # claude | codex | opencode | command | scripted
#     command: [claude]           # the program and its leading arguments
#     args: []                    # extra arguments
#     env: {}                     # variables to set
#     pass_env: [ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL]   # variables to pass on
#   mine:                         # any other CLI, by template
#     adapter: command
#     command: [my-agent, --cwd, "{workspace}", --prompt-file, "{prompt_file}"]
runtimes: {}
"""
