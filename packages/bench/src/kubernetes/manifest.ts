import type { Job } from 'kubernetes-types/batch/v1.d.ts';

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
