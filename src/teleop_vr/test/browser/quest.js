// Runs before the page: puts an emulated Quest 3 into the browser, and `quest` to act with it.
/* global IWER */
(() => {
  const device = new IWER.XRDevice(IWER.metaQuest3, { stereoEnabled: true });
  device.installRuntime({ forceInstall: true }); // Chromium has a navigator.xr of its own
  const seen = { left: true, right: true };
  const pulses = [];
  const grips = {};

  // The emulator calls every pose extrapolated; a real headset only those of hands it does not see.
  const getPose = XRFrame.prototype.getPose;
  XRFrame.prototype.getPose = function (space, base) {
    const pose = getPose.call(this, space, base);
    const owner = [...this.session.inputSources].find((s) => s.gripSpace === space || s.targetRaySpace === space);
    if (pose) Object.defineProperty(pose, "emulatedPosition", { value: owner ? !seen[owner.handedness] : false });
    if (pose && owner?.gripSpace === space) grips[owner.handedness] = pose.transform;
    return pose;
  };
  // Its hands can pinch and point, but make no fist.
  const fists = { left: 0, right: 0 };
  const getJointPose = XRFrame.prototype.getJointPose;
  XRFrame.prototype.getJointPose = function (joint, base) {
    const pose = getJointPose.call(this, joint, base);
    const owner = [...this.session.inputSources].find((s) => s.hand?.get(joint.jointName) === joint);
    const finger = /^(middle|ring|pinky)-finger-(?!metacarpal|phalanx-proximal)/.exec(joint.jointName);
    const closed = owner ? fists[owner.handedness] : 0;
    if (!pose || !finger || !closed) return pose;
    const root = getJointPose.call(this, owner.hand.get(`${finger[1]}-finger-metacarpal`), base).transform.position;
    const { x, y, z } = pose.transform.position;
    const drawn = (from, to) => from + 0.9 * closed * (to - from);
    const position = { x: drawn(x, root.x), y: drawn(y, root.y), z: drawn(z, root.z) };
    return { transform: { position, orientation: pose.transform.orientation }, radius: pose.radius };
  };
  // It keeps the last haptic pulse to itself.
  const listen = (source) => {
    const actuator = source.gamepad?.hapticActuators?.[0];
    if (!actuator || actuator.heard) return;
    actuator.heard = true;
    actuator.pulse = (intensity, duration) => {
      pulses.push({ hand: source.handedness, intensity, duration });
      return Promise.resolve(true);
    };
  };
  const request = navigator.xr.requestSession.bind(navigator.xr);
  navigator.xr.requestSession = async (...how) => {
    const session = await request(...how);
    quest.session = session;
    session.addEventListener("inputsourceschange", () => [...session.inputSources].forEach(listen));
    return session;
  };

  const quest = {
    device,
    seen,
    fists,
    pulses,
    session: null,
    /** Put a hand (left, right) or the head somewhere: [x, y, z] m, quaternion [x, y, z, w]. */
    place(what, position, orientation) {
      const thing = what === "head" ? device : device.controllers[what];
      thing.position.set(...position);
      if (orientation) thing.quaternion.set(...orientation);
    },
    where(hand) {
      const { x, y, z } = device.controllers[hand].position;
      return [x, y, z];
    },
    turned(hand) {
      const { x, y, z, w } = device.controllers[hand].quaternion;
      return [x, y, z, w];
    },
    /** Where the page was told that a grip is, which is beside the controller's own place: [x, y, z, qx, qy, qz, qw]. */
    grip(hand) {
      const { position: p, orientation: q } = grips[hand];
      return [p.x, p.y, p.z, q.x, q.y, q.z, q.w];
    },
    /** Move a hand along a straight line, m, in so many ms. */
    async move(hand, by, ms) {
      const from = quest.where(hand);
      const begin = performance.now();
      for (;;) {
        const share = Math.min(1, (performance.now() - begin) / ms);
        quest.place(
          hand,
          from.map((v, i) => v + share * by[i]),
        );
        if (share === 1) return;
        await new Promise((resolve) => setTimeout(resolve, 8));
      }
    },
    /**
     * Lead both hands along samples [[ms, left, right], …], a hand being [x, y, z, qx, qy, qz, qw].
     * Resolves with when that began, s since 1970.
     */
    async play(samples) {
      const begin = performance.now();
      for (let next = 0; next < samples.length; ) {
        while (next < samples.length && samples[next][0] <= performance.now() - begin) next += 1;
        const [, ...poses] = samples[Math.max(0, next - 1)];
        ["left", "right"].forEach((hand, i) => quest.place(hand, poses[i].slice(0, 3), poses[i].slice(3)));
        await new Promise((resolve) => setTimeout(resolve, 4));
      }
      return (performance.timeOrigin + begin) / 1000;
    },
    /** Press a button so far, 0 to 1. */
    press(hand, button, value = 1) {
      device.controllers[hand].updateButtonValue(button, value);
    },
    async tap(hand, button, ms = 150) {
      quest.press(hand, button, 1);
      await new Promise((resolve) => setTimeout(resolve, ms));
      quest.press(hand, button, 0);
      await new Promise((resolve) => setTimeout(resolve, 60));
    },
    stick(hand, x, y) {
      device.controllers[hand].updateAxes("thumbstick", x, y);
    },
    /** Let go of everything. */
    rest() {
      for (const hand of ["left", "right"]) {
        for (const button of [
          "trigger",
          "squeeze",
          "thumbstick",
          hand === "left" ? "x-button" : "a-button",
          hand === "left" ? "y-button" : "b-button",
        ]) {
          quest.press(hand, button, 0);
        }
        quest.stick(hand, 0, 0);
      }
    },
  };
  globalThis.quest = quest;
})();
