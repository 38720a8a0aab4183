import type { LiveSession } from './session.js';

/** Returns the page's status line. */
export function statusOf({ phase, share, progress, device }: LiveSession): string {
  const percent = `${Math.round(100 * share)} %`;
  switch (phase) {
    case 'idle':
      return 'Training first downloads about 43 MB from this site (55 MB with WebGPU): the model and ONNX Runtime.';
    case 'loading':
      return `Loading: ${percent}`;
    case 'preparing':
      return `Training a head on the frozen encoder first: ${percent}`;
    case 'training':
      if (!progress) return 'Training';
      return `Step ${progress.step} of ${progress.totalSteps}, ${Math.round(progress.milliseconds)} ms${on(device)}`;
    case 'finished':
      return `Finished after ${progress?.totalSteps ?? 0} steps. You can download the adapter.`;
    case 'stopped':
      return progress ? `Stopped at step ${progress.step}. The adapter keeps what it has learned.` : 'Stopped.';
    case 'failed':
      return 'Training failed.';
  }
}

function on(device: LiveSession['device']): string {
  if (!device) return '';
  if (device.backend === 'webgpu') return ' on WebGPU';
  return ` on WebAssembly, ${device.threads} ${device.threads === 1 ? 'thread' : 'threads'}`;
}
