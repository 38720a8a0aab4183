import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { jobManifest } from './manifest.js';

/* The fields of batch/v1 that we use. Unknown fields are refused, as by an API server. */
const text = v.pipe(v.string(), v.minLength(1));
const positive = v.pipe(v.number(), v.integer(), v.minValue(1));
const label = v.pipe(v.string(), v.maxLength(63), v.regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/));
const labels = v.record(text, text);
const quantities = v.record(v.picklist(['cpu', 'memory']), v.pipe(v.string(), v.regex(/^\d+(\.\d+)?(m|[KMGT]i?)?$/)));

const container = v.strictObject({
  name: label,
  image: text,
  workingDir: text,
  command: v.array(text),
  args: v.array(v.string()),
  env: v.array(
    v.strictObject({
      name: v.pipe(v.string(), v.regex(/^[A-Z_]+$/)),
      valueFrom: v.strictObject({ fieldRef: v.strictObject({ fieldPath: text }) }),
    }),
  ),
  resources: v.strictObject({ requests: quantities, limits: quantities }),
  volumeMounts: v.array(v.strictObject({ name: label, mountPath: v.pipe(v.string(), v.startsWith('/')) })),
});

const rule = v.union([
  v.strictObject({
    action: v.picklist(['FailJob', 'FailIndex', 'Ignore', 'Count']),
    onExitCodes: v.strictObject({
      containerName: label,
      operator: v.picklist(['In', 'NotIn']),
      values: v.array(positive),
    }),
  }),
  v.strictObject({
    action: v.picklist(['FailJob', 'FailIndex', 'Ignore', 'Count']),
    onPodConditions: v.array(v.strictObject({ type: text, status: v.picklist(['True', 'False', 'Unknown']) })),
  }),
]);

const job = v.strictObject({
  apiVersion: v.literal('batch/v1'),
  kind: v.literal('Job'),
  metadata: v.strictObject({ name: label, labels }),
  spec: v.strictObject({
    completionMode: v.literal('Indexed'),
    completions: positive,
    parallelism: positive,
    backoffLimitPerIndex: positive,
    podFailurePolicy: v.strictObject({ rules: v.array(rule) }),
    template: v.strictObject({
      metadata: v.strictObject({ labels }),
      spec: v.strictObject({
        restartPolicy: v.literal('Never'), // the one that podFailurePolicy allows
        containers: v.pipe(v.array(container), v.length(1)),
        volumes: v.array(v.strictObject({ name: label, persistentVolumeClaim: v.strictObject({ claimName: label }) })),
      }),
    }),
  }),
});

const options = {
  name: 'my-study',
  image: 'registry.example/peft-bench:1',
  shards: 8,
  parallelism: 16,
  volume: { claim: 'results', path: '/work' },
  cpu: '500m',
  memory: '4Gi',
  run: ['--preset', 'quick', '--task', 'yes', '--train', 'a "b": #c.tsv', '--dev', '$(HOME)/d.tsv', '--out', 'results'],
};

describe('jobManifest', () => {
  const read = parse(stringify(jobManifest(options), { lineWidth: 0 })) as unknown;
  const { spec } = v.parse(job, read);
  const [pod] = spec.template.spec.containers;

  it('is an indexed batch/v1 Job in which each index runs its share', () => {
    expect(spec.completions).toBe(8);
    expect(spec.parallelism).toBe(8);
    expect(pod?.args.slice(-2)).toEqual(['--shard', '$(PEFT_BENCH_SHARD)/8']);
    expect(pod?.env.map(({ name }) => name)).toEqual(['PEFT_BENCH_SHARD']);
  });

  it('passes arguments unchanged, even if YAML or Kubernetes would interpret them', () => {
    const kept = pod?.args.slice(0, options.run.length).map((argument) => argument.replaceAll('$$', '$'));
    expect(kept).toEqual(options.run);
    expect(pod?.args).toContain('$$(HOME)/d.tsv');
  });

  it('mounts the volumes that it names', () => {
    const volumes = spec.template.spec.volumes.map(({ name }) => name);
    expect(pod?.volumeMounts.map(({ name }) => name)).toEqual(volumes);
  });
});
