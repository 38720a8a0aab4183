import { availableParallelism, freemem, totalmem } from 'node:os';
import type { Command } from 'commander';
import { listBackends, type BackendReport } from '@peftjs/engine';
import { engineFromFlags, isOffered, isOnDevice } from '../registry/executors.js';
import { offeredMethods } from '../registry/methods.js';
import { assertStarts } from '../run/processes.js';
import { numericVersions } from '../study/trials.js';

/** `peft-bench doctor`: what this machine can run, and what is missing. */
export function addDoctorCommand(program: Command): void {
  program.command('doctor').description('say what this machine can run, and what is missing').action(diagnose);
}

async function diagnose(): Promise<void> {
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  const { node, ...packages } = await numericVersions();
  say('machine', [
    `Node ${String(node)} on ${process.platform}/${process.arch}`,
    `${availableParallelism()} cores, ${gib(totalmem())} of memory, ${gib(freemem())} free`,
  ]);
  say(
    'packages',
    Object.entries(packages).map(([name, version]) => `${name} ${version}`),
  );
  const backends = await offeredBackends();
  const auto = backends.find(({ executor, available }) => executor === 'eager' && available);
  say('engines', [...backends.map(engineLine), `yes  eager on auto (${String(auto?.backend)})`]);
  say(
    'methods',
    (await offeredMethods()).map(({ name, packageName, version }) => `${name} (${packageName} ${version})`),
  );
}

/** What `--backend` takes. Whether there is a device is only seen by starting it, whatever libraries are installed. */
async function offeredBackends(): Promise<BackendReport[]> {
  const reports = (await listBackends()).filter(isOffered);
  return Promise.all(reports.map(async (report) => (isOnDevice(report) ? started(report) : report)));
}

async function started({ executor, backend }: BackendReport): Promise<BackendReport> {
  try {
    await assertStarts(engineFromFlags({ engine: executor, backend, dtype: 'fp32' }));
    return { executor, backend, available: true };
  } catch (error) {
    return { executor, backend, available: false, reason: (error as Error).message };
  }
}

function engineLine({ executor, backend, available, reason, install }: BackendReport): string {
  if (available) return `yes  ${executor} on ${backend}`;
  const why = (reason ?? 'not available').replace(/ imported from [^;\s]+/, ''); // where Node looked is of no use here
  const cure = install === undefined || why.includes(install) ? '' : `; to install it: ${install}`;
  return `no   ${executor} on ${backend}: ${why}${cure}`;
}

function say(title: string, lines: readonly string[]): void {
  process.stdout.write(`${title}\n${lines.map((line) => `  ${line}\n`).join('')}`);
}
