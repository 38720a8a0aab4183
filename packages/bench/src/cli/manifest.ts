import { Option, type Command } from 'commander';
import type { Job } from 'kubernetes-types/batch/v1.d.ts';
import { ConfigError, DataError } from '@peftjs/core/method';
import { assertSharable } from '../study/trials.js';
import { count, studyFromFlags, withRunFlags, type RunFlags } from './flags.js';

interface ManifestFlags extends RunFlags {
  readonly image: string;
  readonly shards: number;
  readonly parallelism?: number;
  readonly name: string;
  readonly volume: string;
  readonly cpu: string;
  readonly memory: string;
}

/** `peft-bench manifest`: a run, written down for a scheduler of machines. */
export function addManifestCommand(program: Command): void {
  const command = withRunFlags(
    program.command('manifest').description('write a run as a Kubernetes Job, a share of its trials in each pod'),
  );
  const ofRun = [...command.options];
  command
    .addOption(new Option('--kubernetes', 'what the manifest is for').makeOptionMandatory())
    .requiredOption('--image <image>', 'a container image that has peft-bench')
    .option('--shards <n>', 'pods that share the trials', count, 4)
    .option('--parallelism <n>', 'pods at a time: all of them', count)
    .option('--name <name>', 'name of the Job', 'peft-bench')
    .option(
      '--volume <claim:path>',
      'the claim of a volume that all pods write to, and its path there',
      'peft-bench:/work',
    )
    .option('--cpu <quantity>', 'cores of a pod', '1')
    .option('--memory <quantity>', 'memory of a pod', '4Gi')
    .action(async (flags: ManifestFlags) => {
      await assertStudy(flags);
      const given = ofRun.filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli');
      await writeManifest(
        flags,
        given.flatMap((option) => argumentsOf(option, command)),
      );
    });
}

/** @throws ConfigError for what `run` would refuse, too. Data may be where the pods are, and not here. */
async function assertStudy({ seeds, ...flags }: ManifestFlags): Promise<void> {
  const composed = await studyFromFlags(flags, seeds === undefined ? {} : { seeds }).catch((error: unknown) => {
    if (!(error instanceof DataError)) throw error;
  });
  if (composed) assertSharable(composed.study);
}

/** A flag as it was given. */
function argumentsOf(option: Option, command: Command): string[] {
  const value = command.getOptionValue(option.attributeName()) as unknown;
  return [option.long ?? '', ...(value === true ? [] : [String(value)])];
}

async function writeManifest(flags: ManifestFlags, run: readonly string[]): Promise<void> {
  const { image, name, shards, parallelism = shards, volume, cpu, memory } = flags;
  const [claim = '', path = ''] = volume.split(':');
  check('image', image, /^[^\s]+$/, 'the name of an image');
  check('name', name, LABEL, 'a name of lower case letters, digits and "-"');
  check('volume', volume, /^[a-z0-9]([-.a-z0-9]*[a-z0-9])?:\/[^:\s]*$/, 'CLAIM:/path');
  check('cpu', cpu, /^\d+(\.\d+)?m?$/, 'cores, such as 2 or 500m');
  check('memory', memory, /^\d+(\.\d+)?([KMGT]i?)?$/, 'bytes, such as 8Gi');
  const manifest = jobManifest({ name, image, shards, parallelism, volume: { claim, path }, cpu, memory, run });
  const { stringify } = await import('yaml');
  process.stdout.write(stringify(manifest, { lineWidth: 0 }));
}

/** What Kubernetes takes for the name of a Job whose pods have an index in theirs. */
const LABEL = /^[a-z]([-a-z0-9]{0,51}[a-z0-9])?$/;

function check(flag: string, value: string, pattern: RegExp, expected: string): void {
  if (!pattern.test(value)) throw new ConfigError(`--${flag} is '${value}'; expected ${expected}`, flag);
}

/** What a Kubernetes Job is made of. */
export interface JobOptions {
  readonly name: string;
  readonly image: string;
  /** Number of pods that share the trials. */
  readonly shards: number;
  /** Pods at a time. */
  readonly parallelism: number;
  /** The PersistentVolumeClaim that all pods write to, and where it is mounted. */
  readonly volume: { readonly claim: string; readonly path: string };
  /** What a pod asks for, as Kubernetes writes it. */
  readonly cpu: string;
  readonly memory: string;
  /** The options of `peft-bench run`, `--out` among them. */
  readonly run: readonly string[];
}

/** Tries of a pod that fails. What is done by then is not done again. */
const BACKOFF_LIMIT = 3;
/** Exit code of wrong usage or input, which no second try mends. */
const BAD_INPUT = 2;
const CONTAINER = 'peft-bench';

/**
 * A Job (batch/v1) with indexed completion: each pod runs the share of the trials that its index names and writes it to the volume.
 * Needs Kubernetes 1.29, for retries counted by index.
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
          { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] }, // a drained node
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

/** An argument in which Kubernetes replaces nothing. */
function literal(argument: string): string {
  return argument.replaceAll('$(', '$$$$(');
}

const VOLUME = 'work';
const INDEX = 'PEFT_BENCH_SHARD';
/** Where Kubernetes tells a pod its index. */
const INDEX_ANNOTATION = "metadata.annotations['batch.kubernetes.io/job-completion-index']";
