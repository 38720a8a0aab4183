import type { OrtRuntime, OrtSession } from './runtime.js';

/**
 * Returns a runtime for a page whose calls run one after another, the same for every call with this one. All sessions
 * of ONNX Runtime's WebGPU build (1.30) share one stack: a second call during a run corrupts its memory or freezes the
 * page, also one on WebAssembly.
 */
export function oneAtATime(runtime: OrtRuntime): OrtRuntime {
  const queued = queues.get(runtime) ?? queuedRuntime(runtime);
  queues.set(runtime, queued);
  return queued;
}

const queues = new WeakMap<OrtRuntime, OrtRuntime>();

function queuedRuntime(runtime: OrtRuntime): OrtRuntime {
  let last: Promise<unknown> = Promise.resolve();
  const next = <T>(call: () => Promise<T>): Promise<T> => {
    const result = last.then(call);
    last = result.catch(() => undefined);
    return result;
  };
  const queuedSession = (session: OrtSession): OrtSession => ({
    inputNames: session.inputNames,
    outputNames: session.outputNames,
    ...(session.inputMetadata && { inputMetadata: session.inputMetadata }),
    run: (feeds) => next(() => session.run(feeds)),
    release: () => next(() => session.release()),
  });
  return {
    InferenceSession: {
      create: async (model, options) =>
        queuedSession(await next(() => runtime.InferenceSession.create(model, options))),
    },
    ...(runtime.env && { env: runtime.env }),
    Tensor: runtime.Tensor,
  };
}
