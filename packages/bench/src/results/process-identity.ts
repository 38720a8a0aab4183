import { readFile, readlink } from 'node:fs/promises';
import { hostname } from 'node:os';

/** A process, told apart from every other one, also from a later one of the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly host: string;
  /** The machine's own number: names are given twice. */
  readonly machine: string | null;
  /** Start of the machine, where the system tells, like all that follows. */
  readonly boot: string | null;
  /** In which of the machine's containers the process has that number. */
  readonly namespace: string | null;
  /** Start of the process, in ticks since the start of the machine: no clock that is set moves it. */
  readonly start: string | null;
}

/** This process. */
export async function ownIdentity(): Promise<ProcessIdentity> {
  return {
    pid: process.pid,
    host: hostname(),
    machine: await told(() => readFile('/etc/machine-id', 'utf8')),
    boot: await told(() => readFile('/proc/sys/kernel/random/boot_id', 'utf8')),
    namespace: await told(() => readlink('/proc/self/ns/pid')),
    start: (await stateAndStart(process.pid))[1],
  };
}

/** Whether a process has certainly ended. One that cannot be asked for from here counts as alive. */
export async function isDead(one: ProcessIdentity): Promise<boolean> {
  const own = await ownIdentity();
  if (one.host !== own.host || one.machine !== own.machine) return false;
  if (one.boot !== own.boot) return own.machine !== null; // the same machine was started again since
  if (one.namespace !== own.namespace) return false;
  if (!isRunning(one.pid)) return true;
  const [state, start] = await stateAndStart(one.pid);
  if (state === ZOMBIE) return true;
  return one.start !== null && start !== null && start !== one.start; // the number was given out again
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** The state of a process that has ended and that its parent, a container's first process say, has not asked after. */
const ZOMBIE = 'Z';

/** Fields 3 and 22 of /proc/PID/stat, counted behind the name, which may hold anything. */
async function stateAndStart(pid: number): Promise<readonly [string | null, string | null]> {
  const stat = await told(() => readFile(`/proc/${pid}/stat`, 'utf8'));
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  return [fields[0] ?? null, fields[19] ?? null];
}

async function told(ask: () => Promise<string>): Promise<string | null> {
  return ask().then(
    (text) => text.trim(),
    () => null,
  );
}
