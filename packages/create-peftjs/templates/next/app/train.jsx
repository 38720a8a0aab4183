'use client';
import { useEffect, useRef, useState } from 'react';

/** Trains in a Web Worker of this page, and keeps the adapter in the browser. */
export function Train() {
  const worker = useRef(null);
  const [said, setSaid] = useState('');
  useEffect(() => {
    worker.current = new Worker(new URL('../page/worker.js', import.meta.url), { type: 'module' });
    worker.current.onmessage = ({ data: { kind, loss, reason } }) => {
      setSaid(kind === 'step' ? `loss ${loss.toFixed(3)}` : (reason ?? kind));
    };
    return () => worker.current.terminate();
  }, []);
  const train = async () => {
    const table = await (await fetch('/assets/data.tsv')).text();
    worker.current.postMessage({ kind: 'train', table });
  };
  return (
    <p>
      <button onClick={train}>Train</button>{' '}
      <button onClick={() => worker.current.postMessage({ kind: 'stop' })}>Stop</button> <span id="state">{said}</span>
    </p>
  );
}
