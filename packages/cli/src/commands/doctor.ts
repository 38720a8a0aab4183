import { availableParallelism, freemem, totalmem } from 'node:os';
import type { Command } from 'commander';
import { ConfigError } from '@peftjs/core/method';
import { listBackends, type BackendReport } from '@peftjs/engine';
import { commandName } from '../registry/command-name.js';
import { engineFromFlags, isSelectable, isOnDevice } from '../registry/executors.js';
import { availableMethods } from '../registry/methods.js';
import { checkGpus } from '../run/check-gpus.js';
import { FLOAT32 } from '../run/parity.js';
import { assertStarts } from '../run/processes.js';
import { numericVersions } from '../study/trials.js';
import { withExample } from './flags.js';
import { gpuText, gpuVerdict, plainReason, reasonWithCure, section, type Verdict } from './gpu-report.js';

/** `peftjs doctor`: prints a verdict, then what this machine can run and what is missing. */
export function addDoctorCommand(program: Command): void {
  withExample(program.command('doctor'), 'doctor --gpu')
    .description('show what this machine can run and what is missing')
    .option('--gpu', 'check and time a training step on every GPU backend, for a report')
    .option('--json', 'with --gpu: the report as JSON')
    .action((flags: DoctorFlags) => (flags.gpu ? diagnoseGpus(flags) : diagnose(flags)));
}

interface DoctorFlags {
  readonly gpu?: boolean;
  readonly json?: boolean;
}

/** The report of the GPU backends; the exit code is 1 unless at least one passes its check and none fails. */
async function diagnoseGpus({ json = false }: DoctorFlags): Promise<void> {
  const findings = await checkGpus((line) => process.stderr.write(`${commandName}: ${line}\n`));
  const { isReady, line: verdict } = gpuVerdict(findings);
  if (!isReady) process.exitCode = NOT_READY;
  const report = {
    verdict,
    machine: machineLine(),
    versions: await numericVersions(),
    tolerance: FLOAT32,
    ...findings,
  };
  process.stdout.write(json ? `${JSON.stringify(report, null, 2)}\n` : gpuText(report));
}

function machineLine(): string {
  return `Node ${process.versions.node} on ${process.platform}/${process.arch}; ${availableParallelism()} cores, ${gib(totalmem())} of memory, ${gib(freemem())} free`;
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

async function diagnose({ json }: DoctorFlags): Promise<void> {
  if (json) throw new ConfigError('--json is for doctor --gpu; add --gpu, or leave --json out', 'json');
  const backends = await offeredBackends();
  const methods = await availableMethods();
  const { isReady, line } = verdictOf(backends, methods.length);
  if (!isReady) process.exitCode = NOT_READY;
  const { node: _node, ...packages } = await numericVersions();
  const sections = {
    machine: [machineLine()],
    packages: Object.entries(packages).map(([name, version]) => `${name} ${version}`),
    engines: engineLines(backends),
    methods: methods.map(({ name, packageName, version }) => `${name} (${packageName} ${version})`),
  };
  const texts = Object.entries(sections).map(([title, lines]) => section(title, lines));
  process.stdout.write(`${line}\n\n${texts.join('')}`);
}

/** The exit code on a machine that cannot train. */
const NOT_READY = 1;

/** A command that shows within a minute whether everything works. */
const TRY = `npx ${commandName} train --task reviews --method sora --budget 50000 --out reviews-adapter`;

/**
 * Returns whether the machine can train, and one line to print: either with a command to try, or with one that installs
 * what is missing. Commands default to `compiled` on the CPU; where only `eager` works, they need `--engine eager`.
 */
export function verdictOf(backends: readonly BackendReport[], methods: number): Verdict {
  const usual = backends.find(({ executor, backend }) => executor === 'compiled' && backend === 'cpu');
  const available = backends.filter((report) => report.available);
  if (methods === 0) {
    const line = 'Not ready: no installed package offers a method; install some with: npm install peftjs';
    return { isReady: false, line };
  }
  if (usual?.available) {
    const names = ['compiled', 'eager'].flatMap((executor) => {
      const on = available.filter((report) => report.executor === executor).map(({ backend }) => backend);
      return on.length > 0 ? [`${executor} on ${on.join(', ')}`] : [];
    });
    return { isReady: true, line: `Ready: ${methods} methods; ${names.join('; ')}. To try it: ${TRY}` };
  }
  const fix = usual?.install ?? 'npm rebuild onnxruntime-node --ignore-scripts=false';
  const fault = `the default engine does not start (compiled on cpu: ${plainReason(usual?.reason)}); to repair it: ${fix}`;
  const instead = available.find(({ executor }) => executor === 'eager');
  if (!instead) return { isReady: false, line: `Not ready: ${fault}` };
  return { isReady: true, line: `Ready with --engine eager --backend ${instead.backend} only: ${fault}` };
}

/**
 * The backends that `--backend` accepts. A device is only detected by starting it: installed libraries do not prove it.
 */
async function offeredBackends(): Promise<BackendReport[]> {
  const started = async (report: BackendReport): Promise<BackendReport> => {
    if (!isOnDevice(report)) return report;
    const { executor, backend, gpu } = report;
    const starts = assertStarts(engineFromFlags({ engine: executor, backend }));
    const reason = await starts.catch((error: unknown) => (error as Error).message);
    return { executor, backend, gpu, available: reason === undefined, ...(reason !== undefined && { reason }) };
  };
  return Promise.all((await listBackends()).filter(isSelectable).map(started));
}

/** A line for each backend, and one for that which the eager engine chooses by itself, if any of them works. */
export function engineLines(backends: readonly BackendReport[]): string[] {
  const auto = backends.find(({ executor, available }) => executor === 'eager' && available);
  return [...backends.map(engineLine), ...(auto ? [`yes  eager on auto (${auto.backend})`] : [])];
}

function engineLine({ available, executor, backend, ...missing }: BackendReport): string {
  return available ? `yes  ${executor} on ${backend}` : `no   ${executor} on ${backend}: ${reasonWithCure(missing)}`;
}
