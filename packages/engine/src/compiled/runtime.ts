import type * as ort from 'onnxruntime-common';
import { EngineError } from '@peftjs/core';
import { importOptional } from '../host.js';

/** A tensor of ONNX Runtime. */
export type OrtTensor = ort.Tensor;

/** What peftjs uses of ONNX Runtime: onnxruntime-node and onnxruntime-web both fit. */
export interface OrtRuntime {
  readonly InferenceSession: ort.InferenceSessionFactory;
  readonly Tensor: ort.TensorConstructor;
}

/** Where ONNX Runtime computes, in its own words: 'cpu', 'webgpu', 'cuda', or one with options. */
/** Where ONNX Runtime computes: a name, or a name with options. */
export type ExecutionProvider = ort.InferenceSession.ExecutionProviderConfig;

/** ONNX Runtime for Node. @throws EngineError where it is not installed. */
export async function loadRuntime(): Promise<OrtRuntime> {
  try {
    return (await importOptional('onnxruntime-node')) as OrtRuntime;
  } catch (cause) {
    throw new EngineError(
      'onnxruntime-node could not be loaded; in Node install it (npm install onnxruntime-node), ' +
        "in a page pass compiled({ runtime: await import('onnxruntime-web') })",
      undefined,
      cause,
    );
  }
}
