import { Option, type Command } from 'commander';
import type { Job } from 'kubernetes-types/batch/v1.d.ts';
import { ConfigError, DataError } from '@peftjs/core/method';
import { assertSharable } from '@peftjs/cli/trials';
import { count } from '@peftjs/cli';
import { runStudyFromFlags, withRunFlags, type RunFlags } from './run-flags.js';

/** The flags of `peft-bench manifest`. */
interface ManifestFlags extends RunFlags {
  readonly image: string;
  readonly shards: number;
  readonly parallelism?: number;
  readonly name: string;
  readonly volume: string;
  readonly cpu: string;
  readonly memory: string;
}

/** `peft-bench manifest`: writes a run as a Kubernetes manifest. */
export function addManifestCommand(program: Command): void {
  const command = withRunFlags(
    program.command('manifest').description('write a run as a Kubernetes Job whose pods share the trials'),
  );
  const ofRun = [...command.options];
  command
    .addOption(new Option('--kubernetes', 'write a manifest for Kubernetes').makeOptionMandatory())
    .requiredOption('--image <image>', 'container image with peft-bench')
    .option('--shards <n>', 'number of pods that share the trials', count, 4)
    .option('--parallelism <n>', 'pods at a time (default: all)', count)
    .option('--name <name>', 'name of the Job', 'peft-bench')
    .option(
      '--volume <claim:path>',
      'PersistentVolumeClaim that all pods write to, and its mount path',
      'peft-bench:/work',
    )
    .option('--cpu <quantity>', 'cores per pod', '1')
    .option('--memory <quantity>', 'memory per pod', '4Gi')
    .action(async (flags: ManifestFlags) => {
      await assertStudy(flags);
      const given = ofRun.filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli');
      await writeManifest(
        flags,
        given.flatMap((option) => argumentsOf(option, command)),
      );
    });
}

/**
 * @throws ConfigError for whatever `run` would refuse. Missing data is accepted: it may exist only where the pods run.
 */
async function assertStudy(flags: ManifestFlags): Promise<void> {
  const composed = await runStudyFromFlags(flags).catch((error: unknown) => {
    if (!(error instanceof DataError)) throw error;
  });
  if (composed) assertSharable(composed.study);
}

/** A flag and its value as command-line arguments. */
function argumentsOf(option: Option, command: Command): string[] {
  const value = command.getOptionValue(option.attributeName()) as unknown;
  return [option.long ?? '', ...(value === true ? [] : [String(value)])];
}

async function writeManifest(flags: ManifestFlags, run: readonly string[]): Promise<void> {
  const { image, name, shards, parallelism = shards, volume, cpu, memory } = flags;
  const [claim = '', path = ''] = volume.split(':');
  check('image', image, /^[^\s]+$/, 'the name of an image without spaces');
  check('name', name, LABEL, 'a name of lower-case letters, digits and "-"');
  check('volume', volume, /^[a-z0-9]([-.a-z0-9]*[a-z0-9])?:\/[^:\s]*$/, 'CLAIM:/path');
  check('cpu', cpu, /^\d+(\.\d+)?m?$/, 'cores, such as 2 or 500m');
  check('memory', memory, /^\d+(\.\d+)?([KMGT]i?)?$/, 'bytes, such as 8Gi');
  const manifest = jobManifest({ name, image, shards, parallelism, volume: { claim, path }, cpu, memory, run });
  const { stringify } = await import('yaml');
  process.stdout.write(stringify(manifest, { lineWidth: 0 }));
}

/** The Job names that Kubernetes accepts when its pods append their index. */
const LABEL = /^[a-z]([-a-z0-9]{0,51}[a-z0-9])?$/;

function check(flag: string, value: string, pattern: RegExp, expected: string): void {
  if (!pattern.test(value)) throw new ConfigError(`--${flag} is '${value}'; expected ${expected}`, flag);
}

/** The settings of a Kubernetes Job. */
export interface JobOptions {
  /** The name of the Job. */
  readonly name: string;
  /** The container image. */
  readonly image: string;
  /** The number of pods that share the trials. */
  readonly shards: number;
  /** The most pods that run at a time. */
  readonly parallelism: number;
  /** The PersistentVolumeClaim that all pods write to, and its mount path. */
  readonly volume: { readonly claim: string; readonly path: string };
  /** The cores that a pod requests, in Kubernetes' notation. */
  readonly cpu: string;
  /** The memory that a pod requests and is limited to, in Kubernetes' notation. */
  readonly memory: string;
  /** The options of `peft-bench run`, including `--out`. */
  readonly run: readonly string[];
}

/** Retries of a failed pod. Finished trials are not repeated. */
const BACKOFF_LIMIT = 3;
/** The exit code for wrong usage or input: a retry would fail again. */
const BAD_INPUT = 2;
const CONTAINER = 'peft-bench';

/**
 * Builds a Job (batch/v1) with indexed completion. Each pod runs the share of the trials that its index selects, and
 * writes it to the volume. Needs Kubernetes 1.29, for retries counted per index.
 */
export function jobManifest({ name, image, shards, parallelism, volume, cpu, memory, run }: JobOptions): Job {
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name, labels: { 'app.kubernetes.io/name': CONTAINER } },
    spec: {
      completionMode: 'Indexed',
      completions: shards,
      parallelism: Math.min(parallelism, shards),
      backoffLimitPerIndex: BACKOFF_LIMIT,
      podFailurePolicy: {
        rules: [
          { action: 'FailJob', onExitCodes: { containerName: CONTAINER, operator: 'In', values: [BAD_INPUT] } },
          { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] }, // the pod was evicted, e.g. from a drained node
        ],
      },
      template: {
        metadata: { labels: { 'app.kubernetes.io/name': CONTAINER } },
        spec: {
          restartPolicy: 'Never',
          containers: [
            {
              name: CONTAINER,
              image,
              workingDir: volume.path,
              command: ['peft-bench', 'run'],
              args: [...run.map(literal), '--workers', '1', '--shard', `$(${INDEX})/${shards}`],
              env: [{ name: INDEX, valueFrom: { fieldRef: { fieldPath: INDEX_ANNOTATION } } }],
              resources: { requests: { cpu, memory }, limits: { memory } },
              volumeMounts: [{ name: VOLUME, mountPath: volume.path }],
            },
          ],
          volumes: [{ name: VOLUME, persistentVolumeClaim: { claimName: volume.claim } }],
        },
      },
    },
  };
}

/** Escapes an argument so that Kubernetes expands nothing in it. */
function literal(argument: string): string {
  return argument.replaceAll('$(', '$$$$(');
}

const VOLUME = 'work';
const INDEX = 'PEFT_BENCH_SHARD';
/** The annotation that holds a pod's index. */
const INDEX_ANNOTATION = "metadata.annotations['batch.kubernetes.io/job-completion-index']";
