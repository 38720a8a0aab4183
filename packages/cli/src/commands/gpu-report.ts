import { TIMED_SIZES, type TimedSize } from '../run/check-engine.js';
import type { GpuCheck, GpuFindings, MethodCheck, Timing } from '../run/check-gpus.js';

/** The machine and the versions of what computes on it. */
export interface Machine {
  /** Node's version, `linux/x64` and the like, cores and memory, in one line. */
  readonly line: string;
  /** Versions by package. */
  readonly versions: Readonly<Record<string, unknown>>;
}

/** Whether a GPU can be used, in one line; `isReady` if at least one backend passes and none fails. */
export function gpuVerdict({ backends, error }: GpuFindings): { readonly isReady: boolean; readonly line: string } {
  const named = (status: GpuCheck['status']): GpuCheck[] => backends.filter((backend) => backend.status === status);
  const [passed, failed] = [named('passed'), named('failed')];
  if (error !== undefined) return { isReady: false, line: `Not ready: the backends could not be listed: ${error}` };
  if (failed.length > 0) {
    const also = passed.length > 0 ? `; passed: ${namesOf(passed)}` : '';
    return { isReady: false, line: `Failed: ${namesOf(failed)}${also}. Please report it with the text below.` };
  }
  if (passed.length === 0) {
    return { isReady: false, line: 'No GPU: no backend that can use one is available here. The reasons are below.' };
  }
  const onlySoftware = passed.every(({ software }) => software) ? ' This is a software device, not a GPU.' : '';
  return { isReady: true, line: `Passed: ${namesOf(passed)}.${onlySoftware}` };
}

function namesOf(backends: readonly GpuCheck[]): string {
  return backends.map(nameOf).join(', ');
}

/** The findings as text: a verdict, then the machine and each backend. */
export function gpuText(findings: GpuFindings, { line, versions }: Machine): string {
  const { devices, backends, tolerance } = findings;
  const { outputs, gradients, steps } = tolerance;
  const sections = [
    `${gpuVerdict(findings).line}\n`,
    section('machine', [
      line,
      `GPU: ${devices.length > 0 ? devices.join('; ') : 'no installed program knows its name'}`,
    ]),
    section(
      'packages',
      Object.entries(versions).map(([name, version]) => `${name} ${String(version)}`),
    ),
    section(
      `backends: largest ||a - b|| / ||b|| of a tensor (at most: outputs ${size(outputs)}, gradients ${size(gradients)}, steps ${size(steps)})`,
      backends.flatMap(checkLines),
    ),
    section('median time of a training step', timeLines(findings)),
  ];
  return sections.join('\n');
}

function section(title: string, lines: readonly string[]): string {
  return `${title}\n${lines.map((line) => `  ${line}\n`).join('')}`;
}

function checkLines(backend: GpuCheck): string[] {
  const { status, reason, install, checks = [], withoutTf32, software, drivers = [], versions = {} } = backend;
  const about = [
    ...(software ? ['software device'] : []),
    ...(drivers.length > 0 ? [`drivers: ${drivers.join(', ')}`] : []),
    ...Object.entries(versions).map(([name, version]) => `${name} ${version}`),
  ];
  const known = about.length > 0 ? ` (${about.join('; ')})` : '';
  const why = reason === undefined ? '' : `: ${oneLine(reason)}`;
  const cure = install === undefined || why.includes(install) ? '' : `; to install it: ${install}`;
  return [
    `${MARKS[status]}  ${nameOf(backend)}${known}${why}${cure}`,
    ...checks.map(methodLine),
    ...(withoutTf32 ? ['        with NVIDIA_TF32_OVERRIDE=0:', ...withoutTf32.map(methodLine)] : []),
  ];
}

const MARKS = { passed: 'passed', failed: 'FAILED', unavailable: 'no    ' } as const;

function methodLine({ method, passed, farthest: { outputs, gradients, steps } }: MethodCheck): string {
  const distances = `outputs ${size(outputs.distance)}, gradients ${size(gradients.distance)}, steps ${size(steps.distance)}`;
  return `        ${method}: ${distances}${passed ? '' : ` (gradients: ${gradients.tensor}; steps: ${steps.tensor})`}`;
}

function size(distance: number): string {
  return Number.isFinite(distance) ? distance.toExponential(1) : 'not comparable';
}

function timeLines({ backends, cpu }: GpuFindings): string[] {
  return (Object.keys(TIMED_SIZES) as TimedSize[]).flatMap((name) => {
    const { shape, batch } = TIMED_SIZES[name];
    return [
      `${shape.layers} layers of ${shape.hidden}, ${batch.rows} x ${batch.tokens} tokens`,
      ...backends.flatMap((backend) => (backend.steps ? [`  ${timeLine(nameOf(backend), backend.steps[name])}`] : [])),
      `  ${timeLine(`compiled on cpu, threads: ${cpu.threads}`, cpu.steps[name])}`,
    ];
  });
}

function timeLine(name: string, step: Timing): string {
  if ('error' in step) return `${name}: not timed: ${oneLine(step.error)}`;
  return `${name}: ${milliseconds(step.medianMs)} (timed: ${step.steps}; the first step: ${milliseconds(step.firstStepMs)})`;
}

function milliseconds(ms: number): string {
  return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}

function nameOf({ executor, backend }: GpuCheck): string {
  return `${executor} on ${backend}`;
}

/** A reason in one line, without the path that Node adds to the name of a missing module. */
export function oneLine(reason = 'not available'): string {
  return reason.replace(/ imported from [^;\s]+/, '').replace(/\s*\n\s*/g, ' ');
}
