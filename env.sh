. /work/main/.setup/env.sh
export PYTHONPATH=$(ls -d /tmp/gz/src/*/ /tmp/gz/launch/ | tr '\n' ':')$PYTHONPATH MUJOCO_GL=egl OMP_NUM_THREADS=1
cd /tmp/gz
