import { formatMilliseconds, oneLine } from '../format.js';
import { ENCODERS, type EncoderName, type MethodCheck, type Timing } from '../run/check-engine.js';
import type { GpuCheck, GpuFindings } from '../run/check-gpus.js';
import type { Tolerance } from '../run/parity.js';

/** Whether a machine, or its GPU, can be used, in one line. */
export interface Verdict {
  readonly isReady: boolean;
  readonly line: string;
}

/** Whether a GPU can be used: if at least one backend passes and none fails. */
export function gpuVerdict({ backends, error }: GpuFindings): Verdict {
  const named = (status: GpuCheck['status']): GpuCheck[] => backends.filter((backend) => backend.status === status);
  const [passed, failed] = [named('passed'), named('failed')];
  if (error !== undefined) return { isReady: false, line: `Not ready: the backends could not be listed: ${error}` };
  if (failed.length > 0) {
    const also = passed.length > 0 ? `; passed: ${passed.map(nameOf).join(', ')}` : '';
    const line = `Failed: ${failed.map(nameOf).join(', ')}${also}. Please report it with the text below.`;
    return { isReady: false, line };
  }
  if (passed.length === 0) {
    return { isReady: false, line: 'No GPU: no backend that can use one is available here. The reasons are below.' };
  }
  const onlySoftware = passed.every(({ software }) => software) ? ' This is a software device, not a GPU.' : '';
  return { isReady: true, line: `Passed: ${passed.map(nameOf).join(', ')}.${onlySoftware}` };
}

/** What `doctor --gpu` reports. */
export interface GpuReport extends GpuFindings {
  readonly verdict: string;
  /** The machine in one line. */
  readonly machine: string;
  /** Versions by package. */
  readonly versions: Readonly<Record<string, unknown>>;
  readonly tolerance: Tolerance;
}

/** The report as text: a verdict, then the machine and each backend. */
export function gpuText({ verdict, machine, versions, tolerance, devices, backends, cpu }: GpuReport): string {
  const { outputs, gradients, steps } = tolerance;
  const gpu = devices.length > 0 ? devices.join('; ') : 'no installed program knows its name';
  return [
    `${verdict}\n`,
    section('machine', [machine, `GPU: ${gpu}`]),
    section(
      'packages',
      Object.entries(versions).map(([name, version]) => `${name} ${String(version)}`),
    ),
    section(
      `backends: largest ||a - b|| / ||b|| of a tensor (at most: outputs ${size(outputs)}, gradients ${size(gradients)}, steps ${size(steps)})`,
      backends.flatMap(checkLines),
    ),
    section(
      'median time of a training step',
      (Object.keys(ENCODERS) as EncoderName[]).flatMap((name) => {
        const { layers, hidden, rows, tokens } = ENCODERS[name];
        return [
          `${layers} layers of ${hidden}, ${rows} x ${tokens} tokens`,
          ...backends.flatMap((backend) => (backend.steps ? [timeLine(nameOf(backend), backend.steps[name])] : [])),
          timeLine(`compiled on cpu, threads: ${cpu.threads}`, cpu.steps[name]),
        ];
      }),
    ),
  ].join('\n');
}

/** A heading with indented lines below it. */
export function section(title: string, lines: readonly string[]): string {
  return `${title}\n${lines.map((line) => `  ${line}\n`).join('')}`;
}

function checkLines(backend: GpuCheck): string[] {
  const { status, reason, checks = [], withoutTf32, software, drivers = [], versions = {} } = backend;
  const about = [
    ...(software ? ['software device'] : []),
    ...(drivers.length > 0 ? [`drivers: ${drivers.join(', ')}`] : []),
    ...Object.entries(versions).map(([name, version]) => `${name} ${version}`),
  ];
  const known = about.length > 0 ? ` (${about.join('; ')})` : '';
  const why = reason === undefined ? '' : `: ${reasonWithCure(backend)}`;
  return [
    `${MARKS[status]}  ${nameOf(backend)}${known}${why}`,
    ...checks.map(methodLine),
    ...(withoutTf32 ? ['        with NVIDIA_TF32_OVERRIDE=0:', ...withoutTf32.map(methodLine)] : []),
  ];
}

const MARKS = { passed: 'passed', failed: 'FAILED', unavailable: 'no    ' } as const;

function methodLine({ method, passed, farthest: { outputs, gradients, steps } }: MethodCheck): string {
  const distances = `outputs ${size(outputs.distance)}, gradients ${size(gradients.distance)}, steps ${size(steps.distance)}`;
  return `        ${method}: ${distances}${passed ? '' : ` (gradients: ${gradients.name}; steps: ${steps.name})`}`;
}

function size(distance: number): string {
  return Number.isFinite(distance) ? distance.toExponential(1) : 'not comparable';
}

function timeLine(name: string, step: Timing): string {
  if ('error' in step) return `  ${name}: not timed: ${plainReason(step.error)}`;
  return `  ${name}: ${formatMilliseconds(step.medianMs)} (timed: ${step.steps}; the first step: ${formatMilliseconds(step.firstStepMs)})`;
}

function nameOf({ executor, backend }: GpuCheck): string {
  return `${executor} on ${backend}`;
}

/** Why a backend is not available, and how to install it unless the reason says so. */
export function reasonWithCure({ reason, install }: Pick<GpuCheck, 'reason' | 'install'>): string {
  const why = plainReason(reason);
  return install === undefined || why.includes(install) ? why : `${why}; to install it: ${install}`;
}

/** A reason in one line, without the path that Node adds to the name of a missing module. */
export function plainReason(reason = 'not available'): string {
  return oneLine(reason.replace(/ imported from [^;\s]+/, ''));
}
