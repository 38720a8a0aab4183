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

/** This process. Only in Node. */
export async function ownIdentity(): Promise<ProcessIdentity> {
  const { readlink } = await import(/* @vite-ignore */ 'node:fs/promises');
  const { hostname } = await import(/* @vite-ignore */ 'node:os');
  const { pid } = globalThis.process;
  return {
    pid,
    host: hostname(),
    machine: await told('/etc/machine-id'),
    boot: await told('/proc/sys/kernel/random/boot_id'),
    namespace: await readlink('/proc/self/ns/pid').catch(() => null),
    start: (await stateAndStart(pid))[1],
  };
}

/**
 * Whether a process has certainly ended. One that cannot be asked for from here counts as alive.
 * @param self this process, written down in the same way; by default as `ownIdentity` does
 */
export async function isDead(one: ProcessIdentity, self?: ProcessIdentity): Promise<boolean> {
  const own = self ?? (await ownIdentity());
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
    globalThis.process.kill(pid, 0); // sends nothing, asks whether it is there
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code !== 'ESRCH';
  }
}

/** The state of a process that has ended and that its parent, a container's first process say, has not asked after. */
const ZOMBIE = 'Z';

/** Fields 3 and 22 of /proc/PID/stat, counted behind the name, which may hold anything. */
async function stateAndStart(pid: number): Promise<readonly [string | null, string | null]> {
  const stat = await told(`/proc/${pid}/stat`);
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  return [fields[0] ?? null, fields[19] ?? null];
}

async function told(file: string): Promise<string | null> {
  const { readFile } = await import(/* @vite-ignore */ 'node:fs/promises');
  return readFile(file, 'utf8').then(
    (text) => text.trim(),
    () => null,
  );
}
