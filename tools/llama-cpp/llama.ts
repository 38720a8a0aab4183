import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** The parts of node-llama-cpp that are used. It is not a dependency: see compare.ts. */
interface NodeLlamaCpp {
  getLlama(options: object): Promise<Llama>;
}

interface Llama {
  readonly llamaCppRelease: { readonly repo: string; readonly release: string };
  loadModel(options: object): Promise<LlamaModel>;
}

interface LlamaModel {
  tokenize(text: string, specialTokens: boolean): readonly number[];
  createContext(options: object): Promise<LlamaContext>;
  dispose(): Promise<void>;
}

interface LlamaContext {
  getSequence(): Sequence;
  dispose(): Promise<void>;
}

interface Sequence {
  controlledEvaluate(
    tokens: readonly [token: number, options: object][],
  ): Promise<readonly ({ readonly next: { readonly logits?: ReadonlyMap<number, number> } } | undefined)[]>;
}

/** llama.cpp on the processor, with a key-value cache in float32. */
export interface LlamaCpp {
  /** The release of llama.cpp. */
  readonly release: string;
  /** Returns the IDs of a text, without the token that texts begin with. */
  tokenIds(model: string, text: string): Promise<readonly number[]>;
  /** Returns the logits [tokens * words] of a text. */
  logits(model: string, ids: readonly number[], adapter?: string): Promise<Float32Array>;
}

/** Starts the node-llama-cpp that is installed in a folder. */
export async function llamaCpp(folder: string): Promise<LlamaCpp> {
  const entry = join(folder, 'node_modules/node-llama-cpp/dist/index.js');
  const { getLlama } = (await import(pathToFileURL(entry).href)) as NodeLlamaCpp;
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: 1 });
  const withModel = async <T>(modelPath: string, use: (model: LlamaModel) => Promise<T>): Promise<T> => {
    const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
    try {
      return await use(model);
    } finally {
      await model.dispose();
    }
  };
  return {
    release: llama.llamaCppRelease.release,
    tokenIds: (path, text) => withModel(path, (model) => Promise.resolve([...model.tokenize(text, false)])),
    logits: (path, ids, adapter) =>
      withModel(path, async (model) => {
        const context = await model.createContext({
          contextSize: Math.max(64, ids.length),
          batchSize: Math.max(64, ids.length),
          flashAttention: false,
          experimentalKvCacheKeyType: 'F32',
          experimentalKvCacheValueType: 'F32',
          ...(adapter !== undefined && { lora: { adapters: [{ filePath: adapter, scale: 1 }] } }),
        });
        const results = await context
          .getSequence()
          .controlledEvaluate(ids.map((id) => [id, { generateNext: { logits: true } }]));
        const rows = ids.map((_, at) => {
          const found = results[at]?.next.logits ?? new Map<number, number>();
          return Array.from({ length: found.size }, (_, word) => found.get(word) ?? NaN);
        });
        await context.dispose();
        return Float32Array.from(rows.flat());
      }),
  };
}
