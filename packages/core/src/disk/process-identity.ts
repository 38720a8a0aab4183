import { nodeModule } from '../node.js';

/**
 * The identity of a process, unique even if its process ID is reused. Parts that the system does not report are null.
 */
export interface ProcessIdentity {
  /** The process ID. */
  readonly pid: number;
  /** The host name. */
  readonly host: string;
  /** The machine ID, because host names are not unique. */
  readonly machine: string | null;
  /** The boot ID, which changes when the machine starts. */
  readonly boot: string | null;
  /** The namespace (container) in which the process ID is valid. */
  readonly namespace: string | null;
  /** The start time of the process in ticks since boot, which is independent of the clock. */
  readonly start: string | null;
}

/** Returns the identity of this process. Only in Node. */
export async function ownIdentity(): Promise<ProcessIdentity> {
  const { readlink } = fileSystem();
  const { hostname } = nodeModule('node:os') as typeof import('node:os');
  const { pid } = globalThis.process;
  return {
    pid,
    host: hostname(),
    machine: await contentOf('/etc/machine-id'),
    boot: await contentOf('/proc/sys/kernel/random/boot_id'),
    namespace: await readlink('/proc/self/ns/pid').catch(() => null),
    start: (await stateAndStart(pid))[1],
  };
}

/**
 * Whether a process has certainly ended. A process that cannot be checked from here counts as alive.
 * @param self The identity of this process, in the same form. Default: `ownIdentity()`.
 */
export async function isDead(one: ProcessIdentity, self?: ProcessIdentity): Promise<boolean> {
  const own = self ?? (await ownIdentity());
  if (one.host !== own.host || one.machine !== own.machine) return false;
  if (one.boot !== own.boot) return own.machine !== null; // the machine has restarted since
  if (one.namespace !== own.namespace) return false;
  if (!isRunning(one.pid)) return true;
  const [state, start] = await stateAndStart(one.pid);
  if (state === ZOMBIE) return true;
  return one.start !== null && start !== null && start !== one.start; // the process ID was reused
}

function isRunning(pid: number): boolean {
  try {
    globalThis.process.kill(pid, 0); // signal 0 only checks that it exists
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code !== 'ESRCH';
  }
}

/** The state of a process that has ended but was not reaped by its parent, e.g. by the first process of a container. */
const ZOMBIE = 'Z';

/** Returns fields 3 and 22 of /proc/PID/stat. They are counted from the end of the name, which may contain anything. */
async function stateAndStart(pid: number): Promise<readonly [string | null, string | null]> {
  const stat = await contentOf(`/proc/${pid}/stat`);
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  return [fields[0] ?? null, fields[19] ?? null];
}

function fileSystem(): typeof import('node:fs/promises') {
  return nodeModule('node:fs/promises') as typeof import('node:fs/promises');
}

async function contentOf(file: string): Promise<string | null> {
  return fileSystem()
    .readFile(file, 'utf8')
    .then(
      (text) => text.trim(),
      () => null,
    );
}

/** The placeholder in a tag for a part that the system does not report. */
const UNKNOWN = '0';
const TAG = /^(\d+)-(\w+)-(\w+)-(\w+)-(\w+)-(\w+)$/;

/** Returns the identity of this process as part of a file name. Only in Node. */
export async function ownTag(): Promise<string> {
  const { pid, host, machine, boot, namespace, start } = shortened(await ownIdentity());
  return [pid, host, machine, boot, namespace, start].map((part) => part ?? UNKNOWN).join('-');
}

/** Whether the process that a tag of `ownTag` names has certainly ended. False for any other text. */
export async function isDeadTag(tag: string): Promise<boolean> {
  const [, pid, host = '', ...others] = TAG.exec(tag) ?? [];
  if (pid === undefined) return false;
  const [machine = null, boot = null, namespace = null, start = null] = others.map((part) =>
    part === UNKNOWN ? null : part,
  );
  return isDead({ pid: Number(pid), host, machine, boot, namespace, start }, shortened(await ownIdentity()));
}

/**
 * Shortens an identity for file names. A process ID alone is ambiguous: containers that share a folder may reuse it.
 */
function shortened(identity: ProcessIdentity): ProcessIdentity {
  const { createHash } = nodeModule('node:crypto') as typeof import('node:crypto');
  const short = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12);
  const [machine, boot, namespace] = [identity.machine, identity.boot, identity.namespace].map((text) =>
    text === null ? null : short(text),
  ) as [string | null, string | null, string | null];
  return { ...identity, host: short(identity.host), machine, boot, namespace };
}
