import { existsSync } from 'node:fs';
import { CheckpointError } from '@peftjs/core/method';
import type { Folder } from '@peftjs/models';
import type { InferenceSession } from 'onnxruntime-node';

/** The graphs that an export writes, by their paths in its folder. */
const GRAPHS = ['onnx/model.onnx', 'onnx/model_quantized.onnx'];

/** Weights of a model that peftjs loads: a folder that has them is more than an export. */
const WEIGHTS = ['model.safetensors', 'model.safetensors.index.json'];

/** The graphs of an ONNX export; none for any other folder. */
export async function exportedGraphs({ path, storage }: Folder): Promise<string[]> {
  const existing = async (files: readonly string[]): Promise<string[]> => {
    const found = await Promise.all(files.map((file) => storage.exists(`${path}/${file}`)));
    return files.filter((_, index) => found[index]);
  };
  const graphs = await existing(GRAPHS);
  return graphs.length > 0 && (await existing(WEIGHTS)).length === 0 ? graphs : [];
}

/** What a graph takes and returns: one row of texts for each input and output. */
export async function onnxSignature({ path, storage }: Folder, graph: string): Promise<string[][]> {
  const { InferenceSession: sessions } = await import('onnxruntime-node'); // only here: it may not be installed
  const name = `${path}/${graph}`;
  const options = { graphOptimizationLevel: 'disabled', logSeverityLevel: 4 } as const;
  try {
    // A path rather than bytes where there is one: the weights of a large graph are in a file beside it.
    const session = await (existsSync(name)
      ? sessions.create(name, options)
      : sessions.create(await storage.read(name), options));
    const { inputMetadata, outputMetadata } = session;
    await session.release();
    return [...inputMetadata.map(rowOf('input')), ...outputMetadata.map(rowOf('output'))];
  } catch (cause) {
    throw new CheckpointError(`${name}: expected an ONNX file, got other or incomplete content`, name, cause);
  }
}

function rowOf(use: string): (value: InferenceSession.ValueMetadata) => string[] {
  return (value) =>
    value.isTensor ? [use, value.name, value.type, `[${value.shape.join(', ')}]`] : [use, value.name, 'no tensor', ''];
}
