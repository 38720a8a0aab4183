import { readSafetensors, writeSafetensors } from '@peftjs/safetensors';

/** A checkpoint in two shards with an index, under transformers' file names. */
export function inShards(checkpoint: Uint8Array): Record<string, Uint8Array> {
  const tensors = [...readSafetensors(checkpoint)];
  const nameOf = (place: number): string => `model-0000${place + 1}-of-00002.safetensors`;
  const shard = (place: number) =>
    writeSafetensors(new Map(tensors.filter((_, index) => index % 2 === place)), { format: 'pt' });
  const weight_map = Object.fromEntries(tensors.map(([name], index) => [name, nameOf(index % 2)]));
  return {
    'model.safetensors.index.json': new TextEncoder().encode(JSON.stringify({ metadata: {}, weight_map })),
    [nameOf(0)]: shard(0),
    [nameOf(1)]: shard(1),
  };
}
